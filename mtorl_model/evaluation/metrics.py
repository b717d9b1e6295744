"""The metrics of channel and gains, each with an interval over users.

A figure is an array [1 + R]: its value, followed by its replicates. Figures are means over labels; the macro figures
are means over channels.
Shapes: N labels, A actions (channels), R replicates of a bootstrap, B bins.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mtorl_model.evaluation.bootstrap import UserBootstrap, interval, quotient

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Figures = dict[str, Floats]

TOP_SHARES = (0.10, 0.20, 0.375, 0.50)  # of the exposures; the paper's budget pays for 37.5 %
CALIBRATION_BINS = 10
_SMALLEST = 1e-7  # a probability of 0 costs a finite log loss
_SCORE_BINS = 2000  # by rank; in AUC's replicates the scores of a bin count as tied (its value is exact)


def top_name(share: float) -> str:
    """The name of the figure for the top share: 0.1 gives rate_top_10pct."""
    return f"rate_top_{100 * share:g}pct"


def channel_figures(action_N: Ints, guess_N: Ints, actions: int, users: UserBootstrap) -> Figures:
    """F1, precision, recall and accuracy of guesses of the channel.

    action_N: the true channel, 0..A-1. guess_N: the guess; -1, for a missing guess, is never right. Macro means are
    over the channels that occur or are guessed, as in scikit-learn, also within each replicate.
    """
    width = actions + 1  # the last column is "no guess"
    guess_N = np.where(guess_N < 0, actions, guess_N)
    confusion = users.counts(action_N * width + guess_N, actions * width).reshape(-1, actions, width)
    hits = np.einsum("raa->ra", confusion[:, :, :actions])
    actual, guessed = confusion.sum(axis=2), confusion.sum(axis=1)[:, :actions]
    present = actual + guessed > 0
    return {
        "f1_macro": _ratio(2 * hits, actual + guessed).mean(axis=1, where=present),
        "precision_macro": _ratio(hits, guessed).mean(axis=1, where=present),
        "recall_macro": _ratio(hits, actual).mean(axis=1, where=present),
        "accuracy": hits.sum(axis=1) / actual.sum(axis=1),
    }


def _ratio(part: Floats, total: Floats) -> Floats:
    """part / total, and 0 if the total is 0."""
    return np.divide(part, total, out=np.zeros_like(part), where=total > 0)


def is_predictable(action_N: Ints, policy_NA: Floats, user_N: npt.NDArray[Any]) -> bool:
    """Whether the model predicts the channel better than the channels' shares do.

    True if its mean log loss is lower than that of the labels' own shares (the best constant prediction) by more than
    twice the standard error of the difference. A user's labels are not independent, so the error is clustered by user:
    sqrt(U / (U - 1) * sum over users of (sum of the user's deviations)^2) / N. With fewer than two users the error does
    not exist, and the result is False.
    """
    shares_A = np.bincount(action_N, minlength=policy_NA.shape[1]) / len(action_N)
    chosen_N = np.take_along_axis(policy_NA, action_N[:, None], axis=1)[:, 0]
    gained_N = np.log(np.maximum(chosen_N, _SMALLEST)) - np.log(shares_A[action_N])
    _, user_N = np.unique(user_N, return_inverse=True)
    deviations_U = np.bincount(user_N, weights=gained_N - gained_N.mean())
    users = len(deviations_U)
    if users < 2:
        return False
    standard_error = np.sqrt(users / (users - 1) * np.sum(deviations_U**2)) / len(gained_N)
    return bool(gained_N.mean() > 2 * standard_error)


class RewardMetrics(NamedTuple):
    """The figures of one gain, and its calibration curve: mean prediction, rate and number of labels of each bin."""

    figures: Figures
    calibration: list[dict[str, float]]


def reward_metrics(gain_N: Floats, predicted_N: Floats, users: UserBootstrap) -> RewardMetrics:
    """AUC, log loss, top rates and calibration of a predicted probability of a binary gain.

    gain_N: 0 or 1. auc is NaN with one class only. base_logloss is the log loss of predicting the labels' own rate for
    every label. rate_top_<x>pct is the rate among the x % of the labels with the highest predictions; labels tied at
    the threshold count with their mean. ece is the expected calibration error: the mean of |mean prediction - rate|
    over CALIBRATION_BINS bins of about equally many labels, weighted by their labels.
    """
    p_N = np.clip(predicted_N, _SMALLEST, 1 - _SMALLEST)
    loss_N = -(gain_N * np.log(p_N) + (1 - gain_N) * np.log1p(-p_N))
    total, gained, loss = users.sums(np.stack([np.ones_like(gain_N), gain_N, loss_N], axis=1)).T
    rate = gained / total
    bin_N, bins = _bins(predicted_N, _SCORE_BINS)
    labels_RB, gains_RB = users.counts(bin_N, bins), users.counts(bin_N, bins, gain_N)
    figures = {
        "auc": _auc(gains_RB, labels_RB - gains_RB),
        "logloss": loss / total,
        "base_logloss": -(_x_log_x(rate) + _x_log_x(1 - rate)),
        "rate": rate,
        **{top_name(s): _rate_of_top(labels_RB[:, ::-1], gains_RB[:, ::-1], s) for s in TOP_SHARES},
    }
    figures["auc"][0] = _exact_auc(gain_N, predicted_N)
    for share in TOP_SHARES:
        figures[top_name(share)][0] = _exact_rate_of_top(gain_N, predicted_N, share)
    curve_N, points = _bins(predicted_N, CALIBRATION_BINS)
    counts = [users.counts(curve_N, points, weight) for weight in (np.ones_like(gain_N), predicted_N, gain_N)]
    figures["ece"] = np.abs(counts[1] - counts[2]).sum(axis=1) / total
    calibration = [
        {"predicted": float(p / n), "observed": float(g / n), "labels": float(n)}
        for n, p, g in zip(*(c[0] for c in counts), strict=True)
    ]
    return RewardMetrics(figures, calibration)


def session_logloss(gain_N: Floats, predicted_N: Floats, session_N: Ints, users: UserBootstrap) -> Floats:
    """s-logloss, [1 + R]: the mean over sessions of each session's mean log loss. Sessions do not span users."""
    _, session_N, length_S = np.unique(session_N, return_inverse=True, return_counts=True)
    share_N = 1 / length_S[session_N]  # of its session
    p_N = np.clip(predicted_N, _SMALLEST, 1 - _SMALLEST)
    loss_N = -(gain_N * np.log(p_N) + (1 - gain_N) * np.log1p(-p_N))
    loss_R, sessions_R = users.sums(np.stack([share_N * loss_N, share_N], axis=1)).T
    return quotient(loss_R, sessions_R)


def _bins(score_N: Floats, max_bins: int) -> tuple[Ints, int]:
    """The bin of each label, and the number of bins.

    Bins are ascending and have about equally many labels; equal scores are in the same bin.
    """
    edges = np.unique(np.quantile(score_N, np.linspace(0, 1, max_bins + 1)[1:-1], method="lower"))
    used_bins, bin_N = np.unique(np.searchsorted(edges, score_N, side="left"), return_inverse=True)
    return bin_N.astype(np.int64), len(used_bins)


def _auc(positive_RB: Floats, negative_RB: Floats) -> Floats:
    """The probability that a positive is in a higher bin than a negative; ties count half. NaN with one class only."""
    lower_negatives_RB = np.cumsum(negative_RB, axis=1) - negative_RB / 2
    pairs_R = positive_RB.sum(axis=1) * negative_RB.sum(axis=1)
    wins_R = (positive_RB * lower_negatives_RB).sum(axis=1)
    return quotient(wins_R, pairs_R)


def _exact_auc(gain_N: Floats, predicted_N: Floats) -> float:
    """The AUC of scikit-learn's roc_auc_score, whose import would add 1.5 CPU seconds to each day's fine-tuning."""
    _, bin_N = np.unique(predicted_N, return_inverse=True)
    positive_1B, negative_1B = (np.bincount(bin_N, x_N).astype(float)[None] for x_N in (gain_N, 1 - gain_N))
    return float(_auc(positive_1B, negative_1B)[0])


def _rate_of_top(labels_RB: Floats, gains_RB: Floats, share: float) -> Floats:
    """The rate among the first share of the labels, in the order of the bins; the last bin counts in part."""
    size_R1 = share * labels_RB.sum(axis=1, keepdims=True)
    start_RB = np.cumsum(labels_RB, axis=1) - labels_RB
    top_labels_RB = np.clip(size_R1 - start_RB, 0, labels_RB)
    rate_R: Floats = (_ratio(gains_RB, labels_RB) * top_labels_RB).sum(axis=1) / size_R1[:, 0]
    return rate_R


def _exact_rate_of_top(gain_N: Floats, predicted_N: Floats, share: float) -> float:
    size = int(np.ceil(share * len(gain_N)))
    threshold = np.partition(predicted_N, -size)[-size]
    is_above, is_tied = predicted_N > threshold, predicted_N == threshold
    return float((gain_N[is_above].sum() + (size - is_above.sum()) * gain_N[is_tied].mean()) / size)


def _x_log_x(x: Floats) -> Floats:
    return x * np.log(np.maximum(x, _SMALLEST))


def as_json(figures: Figures, names: Sequence[str] = ()) -> dict[str, Any]:
    """The value of each figure by name, and `intervals`: by name, [low, high] (95 %, over users) or null.

    names: the figures to include; an empty tuple includes all.
    """
    selected = {name: figure for name, figure in figures.items() if name in names or not names}
    values = {name: float(f[0]) if np.isfinite(f[0]) else None for name, f in selected.items()}
    return {**values, "intervals": {name: interval(figure) for name, figure in selected.items()}}

"""What an evaluation measures: pure functions of flat arrays, one entry a label.

N labels, A actions (channels). Pooled over labels, macro over channels (design: protocol unseen-users).
"""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

TOP_SHARE = 0.375  # the share of exposures a budget pays for in the paper's experiments
_SMALLEST = 1e-7  # a probability of 0 costs a finite log loss


def channel_metrics(action_N: Ints, policy_NA: Floats, previous_N: Ints, user_N: Ints) -> dict[str, float | bool]:
    """How well the most probable channel names the channel shown.

    action_N: the channel shown, 0..A-1. policy_NA: predicted probabilities. previous_N: the channel that
    the baseline repeats, -1 where there is none (never right). user_N: any integer that names the user.
    A channel that neither occurs nor is predicted has F1 0 and counts in the macro means.
    """
    channels = np.arange(policy_NA.shape[1])
    predicted_N = policy_NA.argmax(axis=1)

    def macro(guess_N: Ints) -> tuple[float, float, float]:
        precision, recall, f1, _ = precision_recall_fscore_support(
            action_N, guess_N, labels=channels, average="macro", zero_division=0
        )
        return float(precision), float(recall), float(f1)

    precision, recall, f1 = macro(predicted_N)
    return {
        "f1_macro": f1,
        "precision_macro": precision,
        "recall_macro": recall,
        "accuracy": float((predicted_N == action_N).mean()),
        "f1_macro_copy_previous": macro(previous_N)[2],
        "predictable": is_predictable(action_N, policy_NA, user_N),
    }


def is_predictable(action_N: Ints, policy_NA: Floats, user_N: Ints) -> bool:
    """Whether the model knows more about the channel than the channels' shares do.

    True where its mean log loss is lower than that of the labels' own shares (the best constant there is)
    by more than twice the standard error of the difference. A user's labels are not independent, so the
    error is clustered by user: sqrt(U / (U - 1) * sum over users of (sum of the user's deviations)^2) / N.
    With fewer than two users there is no such error, and nothing is claimed.
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


def reward_metrics(gain_N: Floats, predicted_N: Floats) -> dict[str, float | None]:
    """How well a predicted probability ranks and measures a binary gain; auc is None with one class only.

    base_logloss is that of the labels' own rate for everyone, rate_top_37.5pct the rate among the labels
    of highest prediction, where labels tied at the threshold count with their mean.
    """
    rate = float(gain_N.mean())
    return {
        "auc": float(roc_auc_score(gain_N, predicted_N)) if 0 < rate < 1 else None,
        "logloss": _log_loss(gain_N, predicted_N),
        "base_logloss": _log_loss(gain_N, np.full_like(predicted_N, rate)),
        "rate_top_37.5pct": _rate_of_top(gain_N, predicted_N, TOP_SHARE),
        "rate": rate,
    }


def _log_loss(gain_N: Floats, predicted_N: Floats) -> float:
    p_N = np.clip(predicted_N, _SMALLEST, 1 - _SMALLEST)
    return float(-np.mean(gain_N * np.log(p_N) + (1 - gain_N) * np.log1p(-p_N)))


def _rate_of_top(gain_N: Floats, predicted_N: Floats, share: float) -> float:
    size = int(np.ceil(share * len(gain_N)))
    threshold = np.partition(predicted_N, -size)[-size]
    above, tied = predicted_N > threshold, predicted_N == threshold
    return float((gain_N[above].sum() + (size - above.sum()) * gain_N[tied].mean()) / size)

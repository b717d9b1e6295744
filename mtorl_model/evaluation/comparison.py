"""Two models on the same users: the log loss of every head, and the paired difference.

N labels, A channels, G gains.
"""

from collections.abc import Container, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lakehouse.lake import Lake
from mtorl_model.data.delayed_feedback import LabelCutoff
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.fusion_metrics import ranking_losses
from mtorl_model.evaluation.label_predictions import LabelPredictions
from mtorl_model.evaluation.label_sources import source_of
from mtorl_model.methods.method import Method
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables.prequential import CHANNEL, RANKING

Floats = npt.NDArray[np.float64]
_SMALLEST = 1e-7  # a probability of 0 costs a finite log loss


class Difference(NamedTuple):
    """A head's mean log losses in nats, and candidate - base with its paired 95 % interval (None with few users)."""

    head: str
    users: int
    labels: int
    base_loss: float
    candidate_loss: float
    value: float
    low: float | None
    high: float | None


class Compared(NamedTuple):
    """The predictions of two models for the same labels, and the difference of each head that has a label."""

    base: LabelPredictions
    candidate: LabelPredictions
    heads: list[Difference]


def compare(
    lake: Lake,
    dataset: Dataset,
    base: Method,
    candidate: Method,
    days: Iterable[str],
    split: str,
    cutoff: LabelCutoff | None = None,
    *,
    with_features: bool = False,
    parts: Container[str] | None = None,
) -> Compared | None:
    """Compare two models on a split's labels of the given days; None without labels.

    with_features: add the inputs to the predictions of `base`. parts: of the users, see LabelSource.read.
    Heads that only one of the models predicts are left out. cutoff: as in predict_labels. Raises UserError if the
    models read different inputs, and Busy if one of the days is published again during the comparison.
    """
    if base.reads != candidate.reads:
        raise UserError(
            f"{base.name} reads {base.reads} and {candidate.name} {candidate.reads}: they have other labels"
        )
    source = source_of(base)
    if not source.can_compare(base, candidate):
        raise UserError("the two models have different feature specs, so they cannot read the same windows")
    predictions = source.read(
        lake, dataset, [base, candidate], list(days), split, cutoff, with_features=with_features, parts=parts
    )
    if predictions is None:
        return None
    base_labels, candidate_labels = predictions
    return Compared(base_labels, candidate_labels, differences(base_labels, candidate_labels, base, candidate))


def differences(
    base_labels: LabelPredictions, candidate_labels: LabelPredictions, base: Method, candidate: Method
) -> list[Difference]:
    """The difference of each head that both models predict and that has a label. The labels of both are the same."""
    users, names = UserBootstrap(base_labels.user_N), candidate.label_names
    base_losses, candidate_losses = (
        head_losses(labels, model, names) for labels, model in ((base_labels, base), (candidate_labels, candidate))
    )
    return [
        _difference(head, base_N, candidate_losses[head][0], labelled_N, base_labels, users)
        for head, (base_N, labelled_N) in base_losses.items()
        if head in candidate_losses and labelled_N.any()
    ]


def head_losses(
    labels: LabelPredictions, model: Method, label_names: tuple[str, ...] = ()
) -> dict[str, tuple[Floats, npt.NDArray[np.bool_]]]:
    """For each predicted head: the log losses of all labels in nats, [N], and a mask of the labels that count, [N].

    The head RANKING has ranking losses, whose mean is 1 - MTF-GAUC, in place of log losses.

    label_names: the names of the heads of gains; default: Method.label_names. The predicted probability that a gain is
    already known is maturity * p (delayed_feedback.py).
    """
    policy_NA, gains_NG = labels.prediction.policy_XA, labels.prediction.gains_XG
    losses = {}
    if policy_NA is not None:
        probability_NA = model.unadjusted(policy_NA)
        known_N = labels.action_N >= 0
        chosen_N = np.take_along_axis(probability_NA, np.where(known_N, labels.action_N, 0)[:, None], axis=1)[:, 0]
        losses[CHANNEL] = -np.log(np.maximum(chosen_N, _SMALLEST)), known_N
    if gains_NG is not None:
        for k, gain in enumerate(label_names or model.label_names):
            p_N = np.clip(gains_NG[:, k] * labels.maturity_NG[:, k], _SMALLEST, 1 - _SMALLEST)
            gained_N = labels.gain_NG[:, k]
            loss_N = -(gained_N * np.log(p_N) + (1 - gained_N) * np.log1p(-p_N))
            losses[gain] = loss_N, labels.maturity_NG[:, k] > 0
    if labels.prediction.fusion_XF is not None:
        score_N, weight_I = labels.prediction.fused.score_X, model.objective_weights
        losses[RANKING] = ranking_losses(labels.user_N, labels.gain_NG, score_N, weight_I)
    return losses


def _difference(
    head: str,
    base_N: Floats,
    candidate_N: Floats,
    labelled_N: npt.NDArray[np.bool_],
    labels: LabelPredictions,
    users: UserBootstrap,
) -> Difference:
    losses_N3 = np.stack([np.ones_like(base_N), base_N, candidate_N], axis=1)
    count_R, base_R, candidate_R = users.sums(losses_N3 * labelled_N[:, None]).T
    count_R = np.maximum(count_R, 1)
    interval = estimate((candidate_R - base_R) / count_R)
    return Difference(
        head, len(np.unique(labels.user_N[labelled_N])), int(labelled_N.sum()), float(base_R[0] / count_R[0]),
        float(candidate_R[0] / count_R[0]), float((candidate_R[0] - base_R[0]) / count_R[0]),
        interval["low"], interval["high"],
    )  # fmt: skip


def as_lines(heads: Iterable[Difference]) -> list[str]:
    """One line per head: both losses, and the difference with its interval."""
    return [
        f"{d.head:<12} {d.base_loss:.5f} -> {d.candidate_loss:.5f}  {d.value:+.5f} ({d.value / d.base_loss:+.2%})"
        + (f" [{d.low:+.5f}, {d.high:+.5f}]" if d.low is not None else "")
        + f"  {d.labels:,} labels of {d.users:,} users"
        for d in heads
    ]

"""Two models on the same users: the log loss of every head, and the paired difference.

N labels, A channels, G gains.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lakehouse.paths import Lake
from lakehouse.reading import unswapped
from mtorl_model.data.delayed_feedback import KnownBy
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.split_windows import split_windows
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.label_predictions import Labels, labels_of_each
from mtorl_model.inference.prediction import unadjusted
from mtorl_model.methods.mtorl.artifact import Artifact
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import sequences
from schemas.tables.prequential import CHANNEL

Floats = npt.NDArray[np.float64]
_SMALLEST = 1e-7  # a probability of 0 costs a finite log loss


class Difference(NamedTuple):
    """A head's mean log losses, nats, and `other` - `one` with its paired 95 % interval (None with few users)."""

    head: str
    users: int
    labels: int
    one: float
    other: float
    value: float
    low: float | None
    high: float | None


class Compared(NamedTuple):
    """What both models said at the same labels, and the difference of each head that has a label."""

    one: Labels
    other: Labels
    heads: list[Difference]


def compare(
    lake: Lake,
    dataset: Dataset,
    one: Artifact,
    other: Artifact,
    days: Iterable[str],
    split: str,
    known_by: KnownBy | None = None,
) -> Compared | None:
    """Both models on a split's labels of some days; None where there is no label. Both must read one feature spec.

    Raises Busy where one of the days is published anew meanwhile.
    """
    if one.spec.version != other.spec.version:
        raise UserError("the two models read different feature specs: no window is for both")
    encoder = Encoder(one.spec, dataset, one.config.reward_form)
    days = list(days)

    with unswapped(lake.partition(sequences.NAME, dataset.name, day) for day in days):
        windows = split_windows(lake, dataset, days, split, encoder, with_times=known_by is not None)
        said = labels_of_each([one, other], windows, dataset, known_by)
    if said is None:
        return None
    users = UserBootstrap(said[0].user_N)
    losses = zip(head_losses(said[0], one).items(), head_losses(said[1], other).values(), strict=True)
    heads = [
        _difference(head, one_N, other_N, told_N, said[0], users)
        for (head, (one_N, told_N)), (other_N, _) in losses
        if told_N.any()
    ]
    return Compared(said[0], said[1], heads)


def head_losses(labels: Labels, artifact: Artifact) -> dict[str, tuple[Floats, npt.NDArray[np.bool_]]]:
    """Of each head: the log loss at every label, nats, and where the label says something about the head.

    A gain is predicted to be known already with the probability maturity * p (delayed_feedback.py).
    """
    chance_NA = unadjusted(artifact, labels.policy_NA)
    chosen_N = np.take_along_axis(chance_NA, labels.action_N[:, None], axis=1)[:, 0]
    losses = {CHANNEL: (-np.log(np.maximum(chosen_N, _SMALLEST)), np.ones(len(chosen_N), dtype=bool))}
    for k, gain in enumerate(artifact.spec.gains):
        p_N = np.clip(labels.predicted_NG[:, k] * labels.maturity_NG[:, k], _SMALLEST, 1 - _SMALLEST)
        gained_N = labels.gain_NG[:, k]
        loss_N = -(gained_N * np.log(p_N) + (1 - gained_N) * np.log1p(-p_N))
        losses[gain] = loss_N, labels.maturity_NG[:, k] > 0
    return losses


def _difference(
    head: str, one_N: Floats, other_N: Floats, told_N: npt.NDArray[np.bool_], labels: Labels, users: UserBootstrap
) -> Difference:
    count_R, one_R, other_R = users.sums(np.stack([np.ones_like(one_N), one_N, other_N], axis=1) * told_N[:, None]).T
    count_R = np.maximum(count_R, 1)
    found = estimate((other_R - one_R) / count_R)
    return Difference(
        head, len(np.unique(labels.user_N[told_N])), int(told_N.sum()), float(one_R[0] / count_R[0]),
        float(other_R[0] / count_R[0]), float((other_R[0] - one_R[0]) / count_R[0]), found["low"], found["high"],
    )  # fmt: skip


def as_lines(heads: Iterable[Difference]) -> list[str]:
    """A line a head."""
    return [
        f"{d.head:<12} {d.one:.5f} -> {d.other:.5f}  {d.value:+.5f} ({d.value / d.one:+.2%})"
        + (f" [{d.low:+.5f}, {d.high:+.5f}]" if d.low is not None else "")
        + f"  {d.labels:,} labels of {d.users:,} users"
        for d in heads
    ]

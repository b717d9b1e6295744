"""Two models on the same users: the log loss of every head, and the paired difference.

python -m mtorl_model.compare --dataset D --lake LAKE --one mtorl_D/1 --other mtorl_D/9 [--from DAY --to DAY]
    [--split validation]

A difference below 0 says that `other` is better. The labels are the full outcomes, as far as the lake has them.
N labels, A channels, G gains.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.lake import Lake
from lakehouse.reading import read_tables, unswapped
from mtorl_model.champion.registry import load_version, named_version
from mtorl_model.data.delayed_feedback import KnownBy
from mtorl_model.data.encoding import Encoder
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.label_predictions import Labels, labels_of_each
from mtorl_model.inference.prediction import unadjusted
from mtorl_model.methods.mtorl.artifact import Artifact
from schemas.dataset import Dataset, get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import SPLITS, VALIDATION
from schemas.tables import SEQUENCES
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


def split_windows(
    lake: Lake, dataset: Dataset, days: Iterable[str], split: str, encoder: Encoder, *, with_times: bool
) -> Iterator[pa.Table]:
    """A split's windows of some days, as `predict_labels` reads them. with_times: as KnownBy needs them."""
    columns = ["user_id", "split", "exposed_at_ms", "exposure_id", *encoder.columns]
    columns += encoder.time_columns if with_times else ()
    partitions = [lake[SEQUENCES, dataset, day].path for day in days]
    for table in read_tables(partitions, dict.fromkeys(columns)):
        yield table.filter(pc.equal(table.column("split"), split))


def days_cut_with(lake: Lake, dataset: Dataset, spec_version: str, first: str | None, last: str | None) -> list[str]:
    """The days from first to last whose sequences were cut with that feature spec; a line for each broken one."""
    found = []
    for day in (d for d in lake.days(SEQUENCES, dataset) if (first or d) <= d <= (last or d)):
        try:
            if lake[SEQUENCES, dataset, day].require().spec_version == spec_version:
                found.append(day)
        except UserError as reason:  # a broken day of the past must not stop today
            print(f"left out: {reason}")
    return found


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

    with unswapped(lake[SEQUENCES, dataset, day].path for day in days):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--one", required=True, metavar="VERSION")
    parser.add_argument("--other", required=True, metavar="VERSION")
    parser.add_argument("--from", dest="first_day", metavar="DAY")
    parser.add_argument("--to", dest="last_day", metavar="DAY")
    parser.add_argument("--split", default=VALIDATION, choices=SPLITS)
    args = parser.parse_args()
    lake, dataset = Lake(args.lake), get_dataset(args.dataset)
    one, other = (load_version(lake, dataset, named_version(lake, dataset, name)) for name in (args.one, args.other))
    days = days_cut_with(lake, dataset, one.spec.version, args.first_day, args.last_day)
    compared = compare(lake, dataset, one, other, days, args.split)
    if compared is None:
        raise UserError(f"no {args.split} user of {dataset.name} has a label from {args.first_day} to {args.last_day}")
    print(f"log loss, {args.one} -> {args.other}, {args.split} users, {len(days)} days")
    print("\n".join(as_lines(compared.heads)))


if __name__ == "__main__":
    exit_with_one_line(main)

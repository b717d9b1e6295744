"""Measure the champion on users it has never been trained on: the protocol unseen-users.

python -m mtorl_model.evaluate --dataset D --lake LAKE --sequences LAKE2 --out metrics.json
python -m mtorl_model.evaluate --dataset D --lake LAKE --split test [--from DAY --to DAY] --out metrics.json

The first reads all windows of another lake, cut with the champion's spec (mtorl_model.export_champion);
users of LAKE's training split are left out. The second reads the held-out users of LAKE itself.
"""

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mtorl_model.artifact import Artifact
from mtorl_model.encoding import Encoder
from mtorl_model.metrics import channel_metrics, reward_metrics
from mtorl_model.prediction import WINDOWS_AT_ONCE, device, predict
from mtorl_model.reading import read_tables, regrouped
from mtorl_model.registry import load_champion
from schemas.dataset import Dataset, get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.paths import Lake, checked_day
from schemas.publishing import require_manifest
from schemas.splits import TEST, TRAIN, VALIDATION
from schemas.tables import journeys, sequences

PROTOCOL = "unseen-users"


def evaluate_windows(artifact: Artifact, tables: Iterable[pa.Table], dataset: Dataset) -> dict[str, Any]:
    """`users`, `labels`, `channel` and `reward` of design section 6, pooled over all label steps of `tables`.

    tables: windows in the layout of schemas/tables/sequences.py. Only a few numbers a label are held.
    Raises UserError where there is no label.
    """
    encoder = Encoder(artifact.spec, dataset, artifact.config.reward_form)
    model = artifact.model.to(device())
    users, windows = [pa.array([], pa.string())], 0
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    for table in regrouped(tables, WINDOWS_AT_ONCE):
        encoded = encoder.encode(table)
        policy_BLA, gains_BLG = predict(model, encoded.batch())
        label_BL = encoded.label_NL
        previous_BL = previous_channel(encoded.action_NL, _times(table, label_BL.shape))
        parts.append(
            (
                windows + label_BL.nonzero()[0],
                encoded.action_NL[label_BL].astype(np.int64),
                previous_BL[label_BL],
                encoded.gains_NLG[label_BL].astype(np.float64),
                policy_BLA[label_BL],
                gains_BLG[label_BL],
            )
        )
        users += table.column("user_id").cast(pa.string()).chunks
        windows += len(table)
    if not any(len(part[0]) for part in parts):
        raise UserError(f"nothing to evaluate for {dataset.name}: no step of these windows is a label")
    window_N, action_N, previous_N, gain_NG, policy_NA, predicted_NG = map(np.concatenate, zip(*parts, strict=True))
    user_N = pa.concat_arrays(users).dictionary_encode().indices.to_numpy()[window_N]
    return {
        "users": len(np.unique(user_N)),
        "labels": len(action_N),
        "channel": channel_metrics(action_N, policy_NA, previous_N, user_N),
        "reward": {g: reward_metrics(gain_NG[:, k], predicted_NG[:, k]) for k, g in enumerate(artifact.spec.gains)},
    }


def previous_channel(
    action_BL: npt.NDArray[np.integer[Any]], exposed_at_BL: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The latest known channel strictly before each step's time, within the window; -1 where there is none.

    action_BL: the step's channel, -1 where unknown or padding. exposed_at_BL: ms, ascending; -1 at padding.
    It is read off the window's own earlier steps, so that the baseline needs no feature that the spec may
    have dropped; steps of one time stamp do not see each other, as in the model's inputs.
    """
    step_L = np.arange(action_BL.shape[1])
    latest_known_BL = np.maximum.accumulate(np.where(action_BL >= 0, step_L, -1), axis=1)
    new_time_BL = np.diff(exposed_at_BL, axis=1, prepend=-2) != 0
    before_BL = np.maximum.accumulate(np.where(new_time_BL, step_L, 0), axis=1) - 1  # the last earlier time's last step
    latest_BL = np.where(before_BL >= 0, np.take_along_axis(latest_known_BL, np.maximum(before_BL, 0), axis=1), -1)
    channel_BL = np.take_along_axis(action_BL, np.maximum(latest_BL, 0), axis=1)
    return np.where(latest_BL >= 0, channel_BL, -1).astype(np.int64)


def _times(table: pa.Table, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    times: npt.NDArray[np.int64] = (
        table.column("exposed_at_ms").combine_chunks().flatten().fill_null(-1).to_numpy().reshape(shape)
    )
    return times


def evaluate_champion(
    lake: Lake,
    dataset: Dataset,
    *,
    other: Lake | None = None,
    split: str | None = None,
    first_day: str | None = None,
    last_day: str | None = None,
) -> dict[str, Any]:
    """metrics.json of the lake's champion, on all windows of `other` or on one split of the lake's own.

    Users of the lake's training split that stand in its newest journeys (which hold every user ever seen) are
    left out and counted in `users_left_out`. Raises UserError where none remain, and where windows were cut
    with another feature spec than the champion's.
    """
    version, artifact = load_champion(lake, dataset)
    source = other or lake
    days = [d for d in source.days(sequences.NAME, dataset.name) if (first_day or d) <= d <= (last_day or d)]
    for day in days:
        cut_with = require_manifest(source, sequences.NAME, dataset.name, day).spec_version
        if cut_with != artifact.spec.version:
            raise UserError(
                f"the sequences of {day} in {source.root} were cut with feature spec {cut_with}, but {version} reads "
                f"{artifact.spec.version}: cut them with the champion's (python -m mtorl_model.export_champion)"
            )
    partitions = [source.partition(sequences.NAME, dataset.name, day) for day in days]
    users, left_out = _users(partitions, split, lake, dataset)
    if len(users) == len(left_out):
        raise UserError(
            f"no user to evaluate {version} on in {source.root}, days {first_day or 'all'} to {last_day or 'all'}: "
            f"of {len(users)} users found, {len(left_out)} were trained on; give a log of other users"
        )
    encoder = Encoder(artifact.spec, dataset, artifact.config.reward_form)
    columns = ["user_id", "split", "exposed_at_ms", *encoder.columns]
    windows = (_keep(table, split, left_out) for table in read_tables(partitions, columns))
    return {
        "protocol": PROTOCOL,
        "dataset": dataset.name,
        "model_version": version,
        **evaluate_windows(artifact, windows, dataset),
        "users_left_out": len(left_out),
        "policy": None,  # an off-policy value needs the log's propensities, not windows
    }


def _users(partitions: list[Path], split: str | None, lake: Lake, dataset: Dataset) -> tuple[pa.Array, pa.Array]:
    """The users of the partitions (of one split, where given), and those of them that `lake` has trained on."""
    found = [_keep(table, split) for table in read_tables(partitions, ["user_id", "split"])]
    if not found:
        return pa.array([]), pa.array([])
    users = pa.concat_tables(found)
    trained = users.filter(pc.equal(users.column("split"), TRAIN)).column("user_id").unique()
    days = lake.days(journeys.NAME, dataset.name)
    if len(trained) and not days:
        raise UserError(
            f"no journeys of {dataset.name} in {lake.root}: they say which users the champion was trained on"
        )
    known = read_tables([lake.partition(journeys.NAME, dataset.name, day) for day in days[-1:]], ["user_id"])
    ids = [chunk for table in known for chunk in table.column("user_id").chunks]
    seen = pc.is_in(trained, value_set=pa.chunked_array(ids, trained.type))
    return users.column("user_id").unique(), trained.filter(seen)


def _keep(table: pa.Table, split: str | None, left_out: pa.Array | None = None) -> pa.Table:
    """The rows of that split (all, if None) whose user is not left out."""
    if split is not None:
        table = table.filter(pc.equal(table.column("split"), split))
    if left_out is not None:
        table = table.filter(pc.invert(pc.is_in(table.column("user_id"), value_set=left_out)))
    return table


def as_text(metrics: dict[str, Any]) -> str:
    """The headline figures as a short table."""
    channel = metrics["channel"]
    lines = [
        f"{metrics['model_version']} on {metrics['users']} unseen users, {metrics['labels']} labels"
        f" ({metrics['users_left_out']} users left out)",
        f"channel      macro-F1 {channel['f1_macro']:.3f} (copy previous {channel['f1_macro_copy_previous']:.3f})"
        f"  accuracy {channel['accuracy']:.3f}  predictable: {'yes' if channel['predictable'] else 'no'}",
    ]
    for gain, found in metrics["reward"].items():
        auc = "  -  " if found["auc"] is None else f"{found['auc']:.3f}"
        lines.append(
            f"{gain:<12} AUC {auc}  log loss {found['logloss']:.3f} (base {found['base_logloss']:.3f})"
            f"  rate {found['rate']:.3f}, top 37.5 % {found['rate_top_37.5pct']:.3f}"
        )
    return "\n".join(lines)


def _write(metrics: dict[str, Any], path: Path) -> None:
    """Atomically: the file is there whole, or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        staged.write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path, help="whose champion is measured")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--sequences", type=Path, metavar="LAKE2", help="a lake with windows of other users")
    data.add_argument("--split", choices=(VALIDATION, TEST), help="held-out users of LAKE itself")
    parser.add_argument("--from", dest="first_day", type=checked_day, metavar="DAY")
    parser.add_argument("--to", dest="last_day", type=checked_day, metavar="DAY")
    parser.add_argument("--out", required=True, type=Path, help="metrics.json")
    args = parser.parse_args()
    metrics = evaluate_champion(
        Lake(args.lake),
        get_dataset(args.dataset),
        other=Lake(args.sequences) if args.sequences else None,
        split=args.split,
        first_day=args.first_day,
        last_day=args.last_day,
    )
    _write(metrics, args.out)
    print(as_text(metrics))
    print(args.out)


if __name__ == "__main__":
    exit_with_one_line(main)

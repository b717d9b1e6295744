"""Measure the champion on users it has never been trained on: the protocol unseen-users.

python -m mtorl_model.evaluate --dataset D --lake LAKE --sequences LAKE2 --out metrics.json
python -m mtorl_model.evaluate --dataset D --lake LAKE --split test [--from DAY --to DAY] --out metrics.json

The first reads all windows of another lake, cut with the champion's spec (mtorl_model.export_champion);
users that LAKE has learned from are left out. The second reads the held-out users of LAKE itself.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.files import write_whole
from lakehouse.lake import Lake
from lakehouse.reading import read_tables
from mtorl_model.champion.registry import load_champion
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.window_store import open_windows
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.label_predictions import Labels, predict_labels
from mtorl_model.evaluation.metrics import (
    TOP_SHARES,
    Figures,
    RewardMetrics,
    as_json,
    channel_figures,
    is_predictable,
    reward_metrics,
    top_name,
)
from mtorl_model.evaluation.off_policy import not_identified, policy_report
from mtorl_model.evaluation.text import as_text
from mtorl_model.inference.prediction import adjustment, unadjusted
from mtorl_model.methods.baselines.boosting import Baselines, fit_baselines
from mtorl_model.methods.mtorl.artifact import Artifact
from schemas.dataset import Dataset, get_dataset
from schemas.days import checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import TEST, TRAIN, VALIDATION
from schemas.tables import EXPOSURES, JOURNEYS, SEQUENCES

PROTOCOL = "unseen-users"
_MODEL, _BOOSTING = "model", "gradient_boosting"
_COMPARED_CHANNEL = ("f1_macro", "accuracy")
_COMPARED_REWARD = ("auc", "logloss", *map(top_name, TOP_SHARES))


def measure(labels: Labels, artifact: Artifact, baselines: Baselines | None) -> dict[str, Any]:
    """`users` to `model_minus_baseline` of metrics.json: the model, the baselines, and the paired differences.

    baselines: gradient boosting; None leaves it out of the table.
    """
    users = UserBootstrap(labels.user_N)
    channel = _channel(labels, artifact, baselines, users)
    reward = {g: _reward(labels, k, baselines, users) for k, g in enumerate(artifact.spec.gains)}
    model = channel.pop(_MODEL)
    return {
        "users": users.users,
        "labels": len(labels.action_N),
        "interval": f"95 %, {users.replicates} bootstrap draws of users",
        "channel": {
            **as_json(model),
            "f1_macro_copy_previous": float(channel["copy_previous"]["f1_macro"][0]),
            "predictable": is_predictable(labels.action_N, unadjusted(artifact, labels.policy_NA), labels.user_N),
        },
        "reward": {g: {**as_json(m[_MODEL].figures), "calibration": m[_MODEL].calibration}
                   for g, m in reward.items()},
        "baselines": {
            "gradient_boosting_fitted_on_labels": baselines.labels if baselines else None,
            "channel": {name: as_json(figures) for name, figures in channel.items()},
            "reward": {g: {name: as_json(other.figures, _COMPARED_REWARD)
                           for name, other in m.items() if name != _MODEL} for g, m in reward.items()},
        },
        "model_minus_baseline": {
            "channel": {name: _differences(model, figures, _COMPARED_CHANNEL) for name, figures in channel.items()},
            "reward": {g: {name: _differences(m[_MODEL].figures, other.figures, _COMPARED_REWARD)
                           for name, other in m.items() if name != _MODEL} for g, m in reward.items()},
        },
    }  # fmt: skip


def _channel(
    labels: Labels, artifact: Artifact, baselines: Baselines | None, users: UserBootstrap
) -> dict[str, Figures]:
    """Boosting's probabilities are adjusted as the model's are: otherwise the adjustment alone would beat it."""
    guesses = {
        _MODEL: labels.policy_NA.argmax(axis=1),
        "copy_previous": labels.previous_N,
        "most_popular": np.full_like(labels.action_N, artifact.initial_policy.most_popular),
    }
    if baselines:
        guesses[_BOOSTING] = baselines.guess_channel(labels.feature_NF, adjustment(artifact))
    actions = labels.policy_NA.shape[1]
    return {name: channel_figures(labels.action_N, guess_N, actions, users) for name, guess_N in guesses.items()}


def _reward(labels: Labels, gain: int, baselines: Baselines | None, users: UserBootstrap) -> dict[str, RewardMetrics]:
    gain_N = labels.gain_NG[:, gain]
    measured = {_MODEL: reward_metrics(gain_N, labels.predicted_NG[:, gain], users)}
    if baselines:
        measured[_BOOSTING] = reward_metrics(gain_N, baselines.predict_gain(gain, labels.feature_NF), users)
    return measured


def _differences(model: Figures, baseline: Figures, names: tuple[str, ...]) -> dict[str, dict[str, float | None]]:
    return {name: estimate(model[name] - baseline[name]) for name in names}


def _policy(labels: Labels, lake: Lake, artifact: Artifact, days: list[str]) -> dict[str, Any]:
    """`policy` of metrics.json, on the labels whose channel was drawn at random, as `exposures` of the days say."""
    drawn = [_drawn_at_random(lake[EXPOSURES, artifact.spec.dataset, day].path) for day in days]
    exposure_D, chance_D = (np.concatenate(columns) for columns in zip(*drawn, strict=True))
    if not len(exposure_D):
        return not_identified("the log names no propensity: nobody knows how its channels were chosen")
    day_D = np.repeat(np.arange(len(drawn)), [len(ids) for ids, _ in drawn])
    order = np.argsort(exposure_D)
    at_N = np.minimum(np.searchsorted(exposure_D[order], labels.exposure_N), len(order) - 1)
    found_N = exposure_D[order][at_N] == labels.exposure_N
    chosen = Labels(*(column[found_N] for column in labels))
    return policy_report(
        chosen.policy_NA, chosen.action_N, chosen.gain_NG[:, 0], chosen.feature_NF, chosen.previous_N,
        day_D[order][at_N][found_N], chance_D[order][at_N][found_N], chosen.user_N, artifact.initial_policy.best_fixed,
        artifact.spec.channels,
    )  # fmt: skip


def _drawn_at_random(partition: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The partition's exposures with a propensity: ids and chances; none where there is no such partition."""
    tables = read_tables([partition], ["exposure_id", "propensity"]) if partition.exists() else ()
    known = [t.filter(pc.greater(t.column("propensity"), 0.0)) for t in tables]
    ids = [np.zeros(0, np.int64), *(t.column("exposure_id").to_numpy() for t in known)]
    chances = [np.zeros(0), *(t.column("propensity").to_numpy() for t in known)]
    return np.concatenate(ids), np.concatenate(chances)


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

    Users of `other` that the lake has learned from are left out and counted in `users_left_out`: those of its
    training and validation splits (the latter chose the epoch) that stand in its newest journeys, which hold every
    user ever seen. Raises UserError where none remain, and where windows were cut
    with another feature spec than the champion's.
    """
    version, artifact = load_champion(lake, dataset)
    source = other or lake
    days = [d for d in source.days(SEQUENCES, dataset) if (first_day or d) <= d <= (last_day or d)]
    for day in days:
        cut_with = source[SEQUENCES, dataset, day].require().spec_version
        if cut_with != artifact.spec.version:
            raise UserError(
                f"the sequences of {day} in {source.root} were cut with feature spec {cut_with}, but {version} reads "
                f"{artifact.spec.version}: cut them with the champion's (python -m mtorl_model.export_champion)"
            )
    partitions = [source[SEQUENCES, dataset, day].path for day in days]
    users, left_out = _users(partitions, split, lake, dataset)
    if len(users) == len(left_out):
        raise UserError(
            f"no user to evaluate {version} on in {source.root}, days {first_day or 'all'} to {last_day or 'all'}: "
            f"of {len(users)} users found, {len(left_out)} were trained on; give a log of other users"
        )
    encoder = Encoder(artifact.spec, dataset, artifact.config.reward_form)
    columns = ["user_id", "split", "exposed_at_ms", "exposure_id", *encoder.columns]
    windows = (_keep(table, split, left_out) for table in read_tables(partitions, columns))
    labels = predict_labels(artifact, windows, dataset, with_features=True)
    notes = list(dataset.notes)
    try:
        baselines = fit_baselines(open_windows(lake, encoder, artifact.spec.first_day, artifact.spec.last_day, TRAIN))
    except UserError as reason:  # after a rollback the training windows may be those of another champion's spec
        baselines = None
        notes.append(f"no gradient boosting to compare with: {reason}")
    return {
        "protocol": PROTOCOL,
        "dataset": dataset.name,
        "model_version": version,
        **measure(labels, artifact, baselines),
        "users_left_out": len(left_out),
        "policy": _policy(labels, source, artifact, days),
        "notes": notes,
    }


def _users(partitions: list[Path], split: str | None, lake: Lake, dataset: Dataset) -> tuple[pa.Array, pa.Array]:
    """The users of the partitions (of one split, where given), and those of them that `lake` has learned from.

    A split is asked for of the lake itself: then nobody is left out.
    """
    found = [_keep(table, split) for table in read_tables(partitions, ["user_id", "split"])]
    if not found:
        return pa.array([]), pa.array([])
    users = pa.concat_tables(found)
    if split is not None:
        ids = users.column("user_id").unique()
        return ids, ids.slice(0, 0)
    learned = pc.is_in(users.column("split"), value_set=pa.array([TRAIN, VALIDATION]))
    trained = users.filter(learned).column("user_id").unique()
    days = lake.days(JOURNEYS, dataset)
    if len(trained) and not days:
        raise UserError(
            f"no journeys of {dataset.name} in {lake.root}: they say which users the champion was trained on"
        )
    known = read_tables([lake[JOURNEYS, dataset, day].path for day in days[-1:]], ["user_id"])
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path, help="whose champion is measured")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--sequences", type=Path, metavar="LAKE2", help="a lake with windows of other users")
    data.add_argument("--split", choices=(TEST,), help="held-out users of LAKE itself")
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
    write_whole(args.out, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    print(as_text(metrics))
    print(args.out)


if __name__ == "__main__":
    exit_with_one_line(main)

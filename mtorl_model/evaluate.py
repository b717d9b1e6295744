"""Evaluate the champions of methods on users that they were not trained on (the protocol unseen-users).

python -m mtorl_model.evaluate --dataset D --lake LAKE --sequences LAKE2 --out metrics.json [--method mtorl]
python -m mtorl_model.evaluate --dataset D --lake LAKE --split test [--from DAY --to DAY] [--method mtorl,rmtl]

The first form reads all windows of another lake, and leaves out the users that LAKE's models were trained on. The
second form reads the held-out users of LAKE itself. Without --out, the metrics of each method go to their place in LAKE
(Lake.metrics). In metrics.json, `channel` is null or `reward` is empty if the method does not predict it.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.arguments import add_lake
from lakehouse.journeys import read_journeys
from lakehouse.lake import Lake, Partition
from lakehouse.models.versions import DEFAULT_METHOD
from lakehouse.reading import read_tables
from lakehouse.storage.files import write_whole
from lakehouse.storage.store_path import located
from mtorl_model.arguments import add_methods, for_each, methods_of
from mtorl_model.champion.registry import Registry
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.propensities import read_propensities
from mtorl_model.data.windows.reading import read_windows
from mtorl_model.data.windows.store import open_windows
from mtorl_model.evaluation.basis import drawn_labels
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.candidate_labels import (
    boosting_on_candidates,
    candidates_of,
    predict_candidates,
    session_figures,
)
from mtorl_model.evaluation.fusion_value import value_report
from mtorl_model.evaluation.label_predictions import LabelPredictions, predict_labels
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
from mtorl_model.evaluation.ranking_report import ranking_report
from mtorl_model.evaluation.text import as_text
from mtorl_model.methods.baselines.boosting import Boosting, BoostingConfig
from mtorl_model.methods.common.recommendation import possible_bases, recommended_channel
from mtorl_model.methods.method import CANDIDATES, FUSION, WINDOWS, Method, Prediction, Run
from schemas.dataset import Dataset, get_dataset
from schemas.days import checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import TEST, TRAIN, VALIDATION
from schemas.tables import EXPOSURES, JOURNEYS, SEQUENCES, STEPS

PROTOCOL = "unseen-users"
_MODEL, _BOOSTING = "model", "gradient_boosting"
_COMPARED_CHANNEL = ("f1_macro", "accuracy")
_COMPARED_REWARD = ("auc", "logloss", *map(top_name, TOP_SHARES))


def measure(labels: LabelPredictions, model: Method, boosting: Boosting | None) -> dict[str, Any]:
    """The part of metrics.json from `users` to `model_minus_baseline`: model, baselines, and paired differences.

    boosting: the strongest baseline; None leaves it out of the table.
    """
    users = UserBootstrap(labels.user_N)
    baseline = boosting.predict_features(labels.feature_NF) if boosting else None
    known_N = labels.action_N >= 0
    known, known_baseline = labels.take(known_N), baseline.take(known_N) if baseline else None
    channel = _channel(known, model, known_baseline, UserBootstrap(known.user_N)) if known_N.any() else {}
    reward = _reward(labels, model, baseline, users)
    reward_baselines = {
        gain: {name: m for name, m in measured.items() if name != _MODEL} for gain, measured in reward.items()
    }
    metrics: dict[str, Any] = {
        "users": users.users,
        "labels": len(labels.action_N),
        "interval": f"95 %, {users.replicates} bootstrap draws of users",
        "channel": None,
        "reward": {g: {**as_json(m[_MODEL].figures), "calibration": m[_MODEL].calibration} for g, m in reward.items()},
        "baselines": {
            "gradient_boosting_fitted_on_labels": boosting.labels if boosting else None,
            "channel": {},
            "reward": {g: {name: as_json(baseline.figures, _COMPARED_REWARD) for name, baseline in m.items()}
                       for g, m in reward_baselines.items()},
        },
        "model_minus_baseline": {
            "channel": {},
            "reward": {g: {name: _differences(reward[g][_MODEL].figures, baseline.figures, _COMPARED_REWARD)
                           for name, baseline in m.items()} for g, m in reward_baselines.items()},
        },
    }  # fmt: skip
    if channel:
        model_figures = channel.pop(_MODEL)
        metrics["channel"] = {
            **as_json(model_figures),
            "f1_macro_copy_previous": float(channel["copy_previous"]["f1_macro"][0]),
            "predictable": _is_predictable(known, model),
        }
        metrics["baselines"]["channel"] = {name: as_json(figures) for name, figures in channel.items()}
        metrics["model_minus_baseline"]["channel"] = {
            name: _differences(model_figures, figures, _COMPARED_CHANNEL) for name, figures in channel.items()
        }
    return metrics


def _is_predictable(labels: LabelPredictions, model: Method) -> bool:
    policy_NA = labels.prediction.policy_XA
    return policy_NA is not None and is_predictable(labels.action_N, model.unadjusted(policy_NA), labels.user_N)


def _channel(
    labels: LabelPredictions, model: Method, baseline: Prediction | None, users: UserBootstrap
) -> dict[str, Figures]:
    """The figures of the model and of each baseline, by name; empty if the model predicts no policy.

    labels, baseline: of channels that the feature spec knows.
    Boosting's probabilities are adjusted like those of the model; otherwise the adjustment alone would be a difference.
    """
    policy_NA = labels.prediction.policy_XA
    if policy_NA is None:
        return {}
    guesses = {
        _MODEL: policy_NA.argmax(axis=1),
        "copy_previous": labels.previous_N,
        "most_popular": np.full_like(labels.action_N, model.initial_policy.most_popular),
    }
    if baseline and baseline.policy_XA is not None:
        guesses[_BOOSTING] = (baseline.policy_XA / model.adjustment_A).argmax(axis=1)
    actions = policy_NA.shape[1]
    return {name: channel_figures(labels.action_N, guess_N, actions, users) for name, guess_N in guesses.items()}


def _reward(
    labels: LabelPredictions, model: Method, baseline: Prediction | None, users: UserBootstrap
) -> dict[str, dict[str, RewardMetrics]]:
    """By gain, the metrics of the model and of each baseline; empty if the model predicts no gains."""
    gains_NG = labels.prediction.gains_XG
    measured: dict[str, dict[str, RewardMetrics]] = {}
    for k, gain in enumerate(model.label_names if gains_NG is not None else ()):
        assert gains_NG is not None
        predicted = {_MODEL: gains_NG}
        if baseline and baseline.gains_XG is not None:
            predicted[_BOOSTING] = baseline.gains_XG
        measured[gain] = {
            name: reward_metrics(labels.gain_NG[:, k], predicted_NG[:, k], users)
            for name, predicted_NG in predicted.items()
        }
    return measured


def _differences(model: Figures, baseline: Figures, names: tuple[str, ...]) -> dict[str, dict[str, float | None]]:
    return {name: estimate(model[name] - baseline[name]) for name in names}


def _policy(labels: LabelPredictions, lake: Lake, model: Method, days: list[str], basis: str) -> dict[str, Any]:
    """`policy` of metrics.json, on the labels whose channel was drawn at random according to the table `exposures`."""
    policy_NA = labels.prediction.policy_XA
    if policy_NA is None:
        return not_identified(f"the method {model.name} predicts no channel policy")
    known = read_propensities(lake[EXPOSURES, model.spec.dataset, day] for day in days)
    drawn = drawn_labels(labels, known)
    if drawn is None:
        return not_identified("the log has no propensities, so it is unknown how its channels were chosen")
    assert drawn.prediction.policy_XA is not None
    recommended = {
        name: recommended_channel(drawn.prediction, name, model.best_channel) for name in possible_bases(model)
    }
    return policy_report(
        drawn.labels, recommended, basis, drawn.prediction.policy_XA, model.best_channel, model.spec.channels
    )


def evaluate_champion(
    registry: Registry,
    *,
    other_lake: Lake | None = None,
    split: str | None = None,
    first_day: str | None = None,
    last_day: str | None = None,
) -> dict[str, Any]:
    """metrics.json of the champion, on all windows of other_lake or on one split of the registry's lake.

    Users of other_lake that the champion was trained on are left out and counted in `users_left_out`. These are the
    users of the training and validation splits (the latter chose the epoch) in the newest journeys of the registry's
    lake, which contain all its users. Raises UserError if no user remains.
    """
    version, model = registry.load_champion()
    selection = _Selection(other_lake, split, first_day, last_day)
    return {
        "protocol": PROTOCOL,
        "dataset": registry.dataset.name,
        "model_version": version,
        **_EVALUATIONS[model.reads](registry, version, model, selection),
    }


class _Selection(NamedTuple):
    """The users and days to evaluate on; see evaluate_champion."""

    other_lake: Lake | None
    split: str | None
    first_day: str | None
    last_day: str | None

    def days(self, lake: Lake, dataset: Dataset, table: str) -> list[str]:
        """The published days of the table in the lake that is evaluated on."""
        first_day, last_day = self.first_day, self.last_day
        return [d for d in lake.days(table, dataset) if (first_day or d) <= d <= (last_day or d)]

    @property
    def period(self) -> str:
        return f"{self.first_day or 'all'} to {self.last_day or 'all'}"


def _evaluate_windows(registry: Registry, version: str, model: Method, selection: _Selection) -> dict[str, Any]:
    lake, dataset, split = registry.lake, registry.dataset, selection.split
    source = selection.other_lake or lake
    days = selection.days(source, dataset, SEQUENCES)
    for day in days:
        source[SEQUENCES, dataset, day].require()
    partitions = [source[SEQUENCES, dataset, day] for day in days]
    users, left_out = _users(partitions, split, lake, dataset)
    if len(users) == len(left_out):
        raise UserError(
            f"no user to evaluate {version} on in {source.root}, days {selection.period}: "
            f"of {len(users)} users found, {len(left_out)} were trained on; give a log of other users"
        )
    encoder = model.encoder(dataset)
    columns = ["user_id", "split", "exposed_at_ms", "exposure_id", *encoder.columns]
    tables = read_windows(source, dataset, days, columns, encoder.spec.channels, split) if days else ()
    windows = (_keep(table, split, left_out) for table in tables)
    labels = predict_labels(model, windows, dataset, with_features=True)
    notes = list(dataset.notes)
    try:
        train = open_windows(lake, encoder, model.spec.first_day, model.spec.last_day, TRAIN)
        boosting = Boosting(BoostingConfig(), model.spec, model.initial_policy).fit(train, train, Run())
    except UserError as reason:  # a day that the champion was trained on may have failed its audit since
        boosting = None
        notes.append(f"no gradient boosting to compare with: {reason}")
    return {
        **measure(labels, model, boosting),
        "users_left_out": len(left_out),
        "policy": _policy(labels, source, model, days, registry.basis_of(version).basis),
        "notes": notes,
    }


def _evaluate_candidates(registry: Registry, version: str, model: Method, selection: _Selection) -> dict[str, Any]:
    """As for windows; each gain also has s_logloss, the mean over sessions of their mean log loss.

    A fusion has the block `ranking` in place of gains (evaluation/ranking_report.py).

    Raises UserError with another lake, because its item history counts other users.
    """
    lake, dataset = registry.lake, registry.dataset
    if selection.other_lake is not None or selection.split is None:
        raise UserError(
            f"{version} reads the history of all users with an item, which another lake does not have: "
            "evaluate it on held-out users of the same lake (--split test)"
        )
    days = selection.days(lake, dataset, STEPS)
    store = candidates_of(lake, dataset, model, days)
    test = store.split_rows(selection.split)
    if not len(test):
        raise UserError(f"no user to evaluate {version} on in {lake.root}, days {selection.period}: add days")
    labels = predict_candidates(model, test, with_features=True)
    ranks = FUSION in model.predicts
    boosting = None if ranks else boosting_on_candidates(model, store)
    metrics = measure(labels, model, boosting)
    if ranks:
        metrics["ranking"] = {
            **ranking_report(model, test, labels.prediction.fused),
            "value": value_report(lake, dataset, days, model, test),
        }
    if boosting is not None:
        _add_session_figures(metrics, labels, boosting, test)
    kind, names = ("objectives", test.objective_names) if ranks else ("tasks", test.task_names)
    notes = [*dataset.notes, f"labels are the {kind} {', '.join(names)}; sessions: {dataset.sessions.reason}"]
    policy = not_identified(f"the method {model.name} predicts no channel policy")
    return {**metrics, "users_left_out": 0, "policy": policy, "notes": notes}


def _add_session_figures(
    metrics: dict[str, Any], labels: LabelPredictions, boosting: Boosting, test: CandidateStore
) -> None:
    """Add s_logloss of the model and of boosting to the metrics, and the difference."""
    users, baseline = UserBootstrap(labels.user_N), boosting.predict_features(labels.feature_NF)
    for k, gain in enumerate(metrics["reward"]):
        model_figures, baseline_figures = (
            session_figures(predicted, test, k, users) for predicted in (labels.prediction, baseline)
        )
        blocks = (metrics["reward"][gain], metrics["baselines"]["reward"][gain][_BOOSTING])
        for block, figures in zip(blocks, (model_figures, baseline_figures), strict=True):
            values = as_json(figures)
            block["intervals"] |= values.pop("intervals")
            block |= values
        differences = _differences(model_figures, baseline_figures, tuple(model_figures))
        metrics["model_minus_baseline"]["reward"][gain][_BOOSTING] |= differences


_EVALUATIONS = {WINDOWS: _evaluate_windows, CANDIDATES: _evaluate_candidates}


def _users(partitions: list[Partition], split: str | None, lake: Lake, dataset: Dataset) -> tuple[pa.Array, pa.Array]:
    """The users of the partitions (of a split, unless None), and those of them that models of `lake` were trained on.

    With a split, which is one of `lake` itself, the second list is empty.
    """
    tables = [_keep(table, split) for table in read_tables(partitions, ["user_id", "split"])]
    if not tables:
        return pa.array([]), pa.array([])
    users = pa.concat_tables(tables)
    if split is not None:
        ids = users.column("user_id").unique()
        return ids, ids.slice(0, 0)
    learned = pc.is_in(users.column("split"), value_set=pa.array([TRAIN, VALIDATION]))
    trained = users.filter(learned).column("user_id").unique()
    days = lake.days(JOURNEYS, dataset)
    if len(trained) and not days:
        raise UserError(
            f"no journeys of {dataset.name} in {lake.root}, which list the users that the champion was trained on: "
            "build them (make backfill)"
        )
    known = read_journeys(lake, dataset, days[-1], ["user_id"]) if days else ()
    ids = [chunk for table in known for chunk in table.column("user_id").chunks]
    is_known = pc.is_in(trained, value_set=pa.chunked_array(ids, trained.type))
    return users.column("user_id").unique(), trained.filter(is_known)


def _keep(table: pa.Table, split: str | None, left_out: pa.Array | None = None) -> pa.Table:
    """The rows of that split (None: of all splits) without the users in left_out."""
    if split is not None:
        table = table.filter(pc.equal(table.column("split"), split))
    if left_out is not None:
        table = table.filter(pc.invert(pc.is_in(table.column("user_id"), value_set=left_out)))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    add_lake(parser)  # of the champion
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--sequences", type=located, metavar="LAKE2", help="a lake with windows of other users")
    data.add_argument("--split", choices=(TEST,), help="held-out users of LAKE itself")
    parser.add_argument("--from", dest="first_day", type=checked_day, metavar="DAY")
    parser.add_argument("--to", dest="last_day", type=checked_day, metavar="DAY")
    parser.add_argument("--out", type=Path, metavar="FILE", help="of one method; default: its place in LAKE")
    add_methods(parser)
    args = parser.parse_args()
    methods = methods_of(args)
    if args.out and len(methods) > 1:
        raise UserError(f"--out {args.out} has the metrics of one method: leave it out, or name one method")
    for_each(methods, lambda method: _evaluate(args, method))


def _evaluate(args: argparse.Namespace, method: str) -> None:
    lake, dataset = Lake(args.lake), get_dataset(args.dataset)
    metrics = evaluate_champion(
        Registry(lake, dataset, method),
        other_lake=Lake(args.sequences) if args.sequences else None,
        split=args.split,
        first_day=args.first_day,
        last_day=args.last_day,
    )
    out = args.out or lake.metrics(dataset, "" if method == DEFAULT_METHOD else method)
    write_whole(out, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    print(as_text(metrics))
    print(out)


if __name__ == "__main__":
    exit_with_one_line(main)

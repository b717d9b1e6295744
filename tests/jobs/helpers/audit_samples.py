"""Tiny valid partitions of every table, made from its contract, to plant faults in."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.quality.day_profile import profiled_columns
from jobs.quality.day_rules import day_bounds_ms
from lakehouse.duckdb_types import duckdb_type
from lakehouse.feature_specs import store_spec
from lakehouse.lake import Lake
from lakehouse.storage.scratch import work_folder
from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.splits import split_of
from schemas.steps import DEFAULT_STEPS, feature_inputs, input_columns, outcome_columns, profile_inputs
from schemas.tables.budget_plan import budget_plan
from schemas.tables.candidates.fusion_exposures import fusion_exposures
from schemas.tables.candidates.fusion_weights import behaviour_column, bias_column, fusion_weights, power_column
from schemas.tables.candidates.task_predictions import score_names, task_predictions
from schemas.tables.channel_allocation import channel_allocation
from schemas.tables.channel_policies import channel_policies
from schemas.tables.exposures import exposures
from schemas.tables.feature_spec import FEATURE_SPEC_TABLE, Feature, FeatureSpec, RewardScale
from schemas.tables.item_history import item_history
from schemas.tables.journeys import journeys
from schemas.tables.prequential import prequential
from schemas.tables.promotions import PROMOTIONS_TABLE
from schemas.tables.quarantine import QUARANTINE_TABLE
from schemas.tables.sequences import sequences
from schemas.tables.steps import steps
from schemas.tables.user_embeddings import user_embeddings
from schemas.tables.user_reward_ranks import user_reward_ranks

DAY = "2017-01-02"
Rows = list[dict[str, Any]]

# Tables with a row for each user of the day's journeys.
EVERY_USER = (
    "channel_policies", "user_reward_ranks", "user_embeddings", "task_predictions", "fusion_weights", "budget_plan",
)  # fmt: skip
_WINDOWS = 4
_DEFAULTS = {"int": 0, "bigint": 0, "double": 0.5, "string": "x", "boolean": True}


def sample(table: str, dataset: Dataset) -> tuple[Table, Rows]:
    """The contract and a few valid rows of a table on DAY."""
    return _SAMPLES[table](dataset)


def write_partition(
    lake: Lake,
    table: Table,
    dataset: Dataset,
    rows: Rows,
    *,
    ds: str = DAY,
    schema: Callable[[pa.Schema], pa.Schema] = lambda schema: schema,
    **manifest: Any,
) -> None:
    """Publish rows as the partition `ds`, in two files; `schema` may bend the Parquet schema."""
    arrow = schema(arrow_schema(table))
    if table.name == "exposures":
        manifest.setdefault("counts", {"rows_in": len(rows), "duplicates": 0, "quarantined": 0})
    if table.name == "feature_spec":
        manifest.setdefault("spec_version", spec_of(dataset).version)
    manifest.setdefault("inputs", {})
    stored = manifest.pop("stored_spec", spec_of(dataset))
    with work_folder() as staged:
        for k, part in enumerate((rows[::2], rows[1::2])):
            known = [{name: row[name] for name in arrow.names if name in row} for row in part]
            pq.write_table(pa.Table.from_pylist(known, schema=arrow), staged / f"part-{k}.parquet")
        if table.name == "feature_spec" and stored is not None:
            store_spec(lake, stored)
        lake[table.name, dataset, ds].publish(staged, code="0", **manifest)


def write_basis(lake: Lake, name: str, dataset: Dataset, *, empty: bool = False) -> None:
    """Publish the tables that a sample, or an empty partition, is audited against."""
    if name == "sequences":
        table, rows = sample("feature_spec", dataset)
        write_partition(lake, table, dataset, rows)
        exposed = [] if empty else shown_in_windows(dataset)
        write_partition(lake, exposures(dataset), dataset, exposed)
        write_partition(lake, steps(dataset), dataset, steps_of(dataset, exposed))
    if name == "steps":
        write_partition(lake, exposures(dataset), dataset, [] if empty else _exposures(dataset)[1])
    if name in EVERY_USER:
        table, rows = sample("journeys", dataset)
        write_partition(lake, table, dataset, [] if empty else rows)


def shown_in_windows(dataset: Dataset) -> Rows:
    """The exposures of DAY that the windows of the sample are made of."""
    start, columns = _start_ms(dataset), exposures(dataset).columns
    return [
        _filled(columns, user_id=user, exposure_id=100 * user + k, exposed_at_ms=start + 1_000 * k, channel="a")
        for user in range(_WINDOWS)
        for k in range(user + 2)
    ]


def steps_of(dataset: Dataset, exposed: Rows) -> Rows:
    """Their steps, if these exposures of journeys that begin on DAY are by user and time."""
    place: Counter[Any] = Counter()
    rows = []
    for exposure in exposed:
        k = place[exposure["user_id"]]
        place[exposure["user_id"]] += 1
        counts = {"position": k, "journey_position": k, "seen_exposures": k, "session_exposures": k}
        rows.append(_filled(steps(dataset).columns, exposure_id=exposure["exposure_id"], session_id=100, **counts))
    return rows


def arrow_schema(table: Table) -> pa.Schema:
    columns = ", ".join(f'CAST(NULL AS {duckdb_type(c.dtype)}) AS "{c.name}"' for c in table.columns)
    return duckdb.sql(f"SELECT {columns}").to_arrow_table().schema


def spec_of(dataset: Dataset) -> FeatureSpec:
    """One number and one category kept, the rest dropped."""
    candidates = [*feature_inputs(dataset), *profile_inputs(dataset)]
    return FeatureSpec(
        dataset.name, DAY, DAY, ("a", "b"), dataset.gain_names, tuple(g.weight for g in dataset.gains),
        RewardScale(0.5, 0.0, 1.0), tuple(_feature(c) for c in candidates),
    )  # fmt: skip


def _feature(column: Column) -> Feature:
    kept_features = {"gap_s": ("numeric", (), 1.0), "hour": ("categorical", ("0", "1"), None)}
    if column.name not in kept_features:
        return Feature(column.name, column.role.value, column.static, False, "nearly constant")
    role, vocabulary, std = kept_features[column.name]
    return Feature(column.name, role, column.static, True, mean=std, std=std, vocabulary=vocabulary)


def _filled(columns: tuple[Column, ...], **values: Any) -> dict[str, Any]:
    """A value for each column: the given one, else null if the column allows it, else a default of its type."""
    default = {c.name: None if c.nullable else _DEFAULTS.get(c.dtype, []) for c in columns}
    return {c.name: values.get(c.name, default[c.name]) for c in columns}


def _start_ms(dataset: Dataset) -> int:
    return day_bounds_ms(dataset, DAY)[0]


def _exposures(dataset: Dataset) -> tuple[Table, Rows]:
    table = exposures(dataset)
    late = {dataset.column(g).known_at: g for g in dataset.late_gains}
    rows = []
    for k in range(8):
        gains = dict.fromkeys(dataset.gain_names, k % 2)
        exposed_at_ms = _start_ms(dataset) + 1_000 * k
        times = {name: exposed_at_ms + 500 if gains[gain] else None for name, gain in late.items()}
        features = {c.name: _DEFAULTS[c.dtype] for c in profiled_columns(dataset)}
        channel = (dataset.channels or ("a", "b"))[k % 2]
        values = {"user_id": k % 3, "exposure_id": 100 + k, "exposed_at_ms": exposed_at_ms, "channel": channel}
        rows.append(_filled(table.columns, **values, propensity=0.5, **{**features, "cost": 0.5, **gains, **times}))
    return table, rows


def _quarantine(dataset: Dataset) -> tuple[Table, Rows]:
    return QUARANTINE_TABLE, [
        {
            "source_file": "log.csv",
            "raw": f"1,{k}".encode(),
            "reason": "time_ms is negative",
            "header": b"user,time_ms\n",
        }
        for k in range(3)
    ]


def _step(dataset: Dataset, k: int, **values: Any) -> dict[str, Any]:
    """Step k of a journey: one second after step k - 1."""
    columns = (*outcome_columns(dataset), *input_columns(dataset))
    known = {"exposure_id": 100 + k, "exposed_at_ms": _start_ms(dataset) + 1_000 * k, "seen_exposures": k}
    return _filled(columns, **{"channel": "a", "gap_s": 1.0, **known, **values})


def _journeys(dataset: Dataset) -> tuple[Table, Rows]:
    table = journeys(dataset)
    end = day_bounds_ms(dataset, DAY)[1]
    rows = []
    for user in range(4):
        memory = [_step(dataset, k) for k in range(user + 1)]
        next_step = _filled(input_columns(dataset), seen_exposures=user + 1)
        pending = [{"known_at_ms": end + 5, "channel": "a", "gain": dataset.gain_names[0]}] if user else []
        times = dict.fromkeys(dataset.gain_names, 5)
        seen = {f"seen_{name}": user for name in ("exposures", *dataset.gain_names)}
        session = {"session_id": 100, "exposures": user + 1, "began_at_ms": _start_ms(dataset), **seen}
        rows.append(_filled(table.columns, user_id=user, memory=memory, next_step=next_step, pending=pending,
                            last_gain_at_ms=times, session=session))  # fmt: skip
    return table, rows


def _steps(dataset: Dataset) -> tuple[Table, Rows]:
    table = steps(dataset)
    return table, [
        _filled(table.columns, exposure_id=row["exposure_id"], session_id=100, position=k, session_exposures=k,
                journey_position=k, seen_exposures=k)
        for k, row in enumerate(_exposures(dataset)[1])
    ]  # fmt: skip


def _item_history(dataset: Dataset) -> tuple[Table, Rows]:
    table, gains = item_history(dataset), dict.fromkeys(dataset.gain_names, 1)
    return table, [
        _filled(table.columns, item=item, value=value, exposures=3, **gains) for item in dataset.items for value in "ab"
    ]


def _feature_spec(dataset: Dataset) -> tuple[Table, Rows]:
    return FEATURE_SPEC_TABLE, [{**asdict(f), "vocabulary": list(f.vocabulary)} for f in spec_of(dataset).features]


def _sequences(dataset: Dataset) -> tuple[Table, Rows]:
    """The first window of each user: user + 2 steps. All of them except the first are labels."""
    table = sequences(dataset)
    return table, [
        _filled(table.columns, user_id=user, split=split_of(user), length=DEFAULT_STEPS,
                padding=DEFAULT_STEPS - (user + 2), first_label=1, last_step=user + 1)
        for user in range(_WINDOWS)
    ]  # fmt: skip


def _channel_policies(dataset: Dataset) -> tuple[Table, Rows]:
    return channel_policies(dataset), [
        {"user_id": user, "channel": "ab"[user % 2], "source": "model", "model_version": "mtorl/1",
         "feature_spec": "0123456789ab", "day": DAY, "policy": [("a", 0.75 - user % 2 / 2), ("b", 0.25 + user % 2 / 2)],
         "basis": "imitation", "explored": False, "propensity": 1.0,
         **{f"expected_{gain}": [("a", 0.25), ("b", 0.5)] for gain in dataset.gain_names}}
        for user in range(4)
    ]  # fmt: skip


def _user_reward_ranks(dataset: Dataset) -> tuple[Table, Rows]:
    table = user_reward_ranks(dataset)
    rewards = {7: 0.9, 3: 0.5, 5: 0.5, 1: 0.1}  # a tie, by user id
    return table, [
        _filled(table.columns, user_id=user, predicted_reward=reward, rank=k + 1, source="initial")
        for k, (user, reward) in enumerate(rewards.items())
    ]


def _task_predictions(dataset: Dataset) -> tuple[Table, Rows]:
    table, names = task_predictions(dataset), score_names(dataset)
    return table, [
        _filled(table.columns, user_id=user, **{f"predicted_{name}": chance for name in names},
                **{f"rank_{name}": k + 1 for name in names})
        for k, (user, chance) in enumerate({7: 0.9, 3: 0.5, 5: 0.5, 1: 0.1}.items())
    ]  # fmt: skip


def _fusion(dataset: Dataset) -> dict[str, float]:
    names = [objective.name for objective in dataset.objectives]
    weights = {**{power_column(name): 1.0 for name in names}, **{bias_column(name): 0.05 for name in names}}
    return {**weights, **{behaviour_column(column): weight for column, weight in weights.items()}, "half_width": 0.15}


def _fusion_weights(dataset: Dataset) -> tuple[Table, Rows]:
    table = fusion_weights(dataset)
    return table, [_filled(table.columns, user_id=user, **_fusion(dataset)) for user in range(4)]


def _fusion_exposures(dataset: Dataset) -> tuple[Table, Rows]:
    table = fusion_exposures(dataset)
    return table, [
        _filled(table.columns, request_id=request, draw=draw, propensity=20.0, **_fusion(dataset))
        for request in range(2)
        for draw in range(2)
    ]


def _user_embeddings(dataset: Dataset) -> tuple[Table, Rows]:
    table = user_embeddings(dataset)
    return table, [_filled(table.columns, user_id=user, embedding=[0.5, float(user)]) for user in range(4)]


def _channel_allocation(dataset: Dataset) -> tuple[Table, Rows]:
    return channel_allocation(dataset), [
        {"channel": "ab"[k], "position": k, "exposures": 10, "gained": 4, "reliable": 10, "cost_nano": 5,
         "cost_gained_nano": 7, "explicit": 0.5, "implicit": 0.25 + k / 2, "initial": 0.375 + k / 4, "tau": 0.3,
         "alpha": 0.5, "model_version": "mtorl/1"}
        for k in range(2)
    ]  # fmt: skip


def _budget_plan(dataset: Dataset) -> tuple[Table, Rows]:
    return budget_plan(dataset), [
        {"user_id": user, "channel": "ab"[user % 2], "expected_reward": 0.25, "expected_cost_nano": 40,
         "selected": user < 2, "source": "model", "budget_nano": 100, "reward_bound": 0.6, "model_version": "mtorl/1"}
        for user in range(4)
    ]  # fmt: skip


def _prequential(dataset: Dataset) -> tuple[Table, Rows]:
    table = prequential(dataset)
    heads = ("channel", *dataset.gain_names)
    return table, [
        _filled(table.columns, head=head, day=DAY, trained_through="2017-01-01", rate=rate, predicted_rate=rate)
        for head, rate in zip(heads, (None, 0.25, 0.0), strict=True)
    ]


def _promotions(dataset: Dataset) -> tuple[Table, Rows]:
    names = ("channel", *dataset.gain_names, "policy_audit")
    return PROMOTIONS_TABLE, [
        _filled(PROMOTIONS_TABLE.columns, check=name, decision="refused", passed=name != "channel") for name in names
    ]


_SAMPLES = {
    "exposures": _exposures,
    "quarantine": _quarantine,
    "journeys": _journeys,
    "feature_spec": _feature_spec,
    "steps": _steps,
    "item_history": _item_history,
    "sequences": _sequences,
    "channel_policies": _channel_policies,
    "user_reward_ranks": _user_reward_ranks,
    "user_embeddings": _user_embeddings,
    "task_predictions": _task_predictions,
    "fusion_weights": _fusion_weights,
    "fusion_exposures": _fusion_exposures,
    "channel_allocation": _channel_allocation,
    "budget_plan": _budget_plan,
    "prequential": _prequential,
    "promotions": _promotions,
}


def spec_with(dataset: Dataset, **changes: Any) -> FeatureSpec:
    """The spec with its first feature changed."""
    spec = spec_of(dataset)
    return replace(spec, features=(replace(spec.features[0], **changes), *spec.features[1:]))

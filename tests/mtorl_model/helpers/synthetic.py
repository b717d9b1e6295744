"""Small lakes with windows, written straight from the contracts with pyarrow, for tests.

Users' journeys are simulated step by step with exactly the inputs that the contract names: counts, gaps
and last values known before the step. A model can learn two rules: a user mostly stays on the channel of the
previous exposure, and clicks far more often at even hours.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.arrow_types import arrow_type, stored_schema
from lakehouse.feature_specs import store_spec
from lakehouse.lake import Lake, Partition
from lakehouse.storage.data_files import part_of
from lakehouse.storage.scratch import work_folder
from mtorl_model.data.windows.reading import read_windows
from schemas.contract import Column, Known
from schemas.dataset import Dataset, get_dataset
from schemas.days import days_between
from schemas.splits import split_of
from schemas.steps import MEMORY_STEPS, feature_inputs, last_column, profile_inputs, window_columns
from schemas.tables import FEATURE_SPEC, exposures, sequences
from schemas.tables import journeys as journeys_table
from schemas.tables import steps as steps_table
from schemas.tables.feature_spec import FEATURE_SPEC_TABLE, Feature, FeatureSpec, RewardScale

DAY_MS = 86_400_000
FIRST_DAY_MS = 19_000 * DAY_MS  # of every synthetic lake, whatever the names of its days
LATE_DAYS = 1.5  # mean delay of a late gain
CHANNELS = {"kuairand": ("short", "mid", "long"), "criteo": ("5", "2", "7", "1")}
_PROFILE = {"kuairand": ("user_active_degree", "register_days")}
_CONTEXT = {"kuairand": ("play_time_ms", "tag"), "criteo": ("campaign",)}


def make_spec(dataset: Dataset, first_day: str, last_day: str) -> FeatureSpec:
    """A small spec: hour, last channel, gap, and a few columns of the dataset."""
    hours = tuple(str(h) for h in range(24))
    features = [
        Feature("hour", "categorical", False, True, vocabulary=hours),
        Feature(last_column("channel"), "categorical", False, True, vocabulary=tuple(sorted(CHANNELS[dataset.name]))),
        Feature("gap_s", "numeric", False, True, mean=7.0, std=2.0, unit=1.0),
        Feature("weekday", "categorical", False, False, reason="variance below the threshold"),
    ]
    for name in _CONTEXT.get(dataset.name, ()):
        features.append(_feature(dataset, name, last_column(name), static=False))
    for name in _PROFILE.get(dataset.name, ()):
        features.append(_feature(dataset, name, name, static=True))
    weights = tuple(g.weight for g in dataset.gains)
    return FeatureSpec(
        dataset=dataset.name, first_day=first_day, last_day=last_day, channels=CHANNELS[dataset.name],
        gains=dataset.gain_names, gain_weights=weights,
        reward=RewardScale(penalty=0.5, low=-0.5, high=sum(weights)), features=tuple(features),
    )  # fmt: skip


def _feature(dataset: Dataset, column: str, name: str, *, static: bool) -> Feature:
    if dataset.column(column).role.value == "categorical":
        return Feature(name, "categorical", static, True, vocabulary=("a", "b", "c"))
    return Feature(name, "numeric", static, True, mean=3.0, std=1.5, unit=1.0)


@dataclass
class _Journey:
    """A user's exposures so far, and the counts known before the next one."""

    user_id: int
    dataset: Dataset
    spec: FeatureSpec
    rng: np.random.Generator
    steps: list[dict[str, Any]] = field(default_factory=list)

    def expose(self, at_ms: int) -> None:
        """Append one step: inputs from the earlier steps, then its outcome."""
        spec, rng, past = self.spec, self.rng, self.steps
        previous = past[-1] if past else None
        step: dict[str, Any] = {
            "hour": int(at_ms // 3_600_000 % 24),
            "gap_s": (at_ms - previous["exposed_at_ms"]) / 1000 if previous else 0.0,
            last_column("channel"): previous["channel"] if previous else None,
            "new_cost": previous["cost"] if previous else 0.0,
        }
        for event in ("exposures", *spec.gains):
            new = [int(c == previous["channel"]) * previous.get(event, 1) for c in spec.channels] if previous else None
            step[f"new_{event}_by_channel"] = new or [0] * len(spec.channels)
            seen = previous[f"seen_{event}_by_channel"] if previous else [0] * len(spec.channels)
            step[f"seen_{event}_by_channel"] = [
                s + n for s, n in zip(seen, step[f"new_{event}_by_channel"], strict=True)
            ]
            for prefix in ("seen", "new"):
                step[f"{prefix}_{event}"] = sum(step[f"{prefix}_{event}_by_channel"])
        stays = previous is not None and rng.random() < 0.85
        step |= {"user_id": self.user_id, "journey_position": len(past)}
        step |= {"exposure_id": self.user_id * 1_000_000 + len(past), "exposed_at_ms": at_ms}
        step["channel"] = previous["channel"] if stays and previous else str(rng.choice(spec.channels))
        for k, gain in enumerate(spec.gains):
            step[gain] = int(rng.random() < (0.7 if step["hour"] % 2 == k % 2 else 0.05))
            if gain in self.dataset.late_gain_times and step[gain]:
                step[self.dataset.late_gain_times[gain]] = at_ms + int(rng.exponential(LATE_DAYS * DAY_MS))
        step["cost"] = float(rng.integers(0, 4)) / 4 if self.dataset.name == "criteo" else 0.0
        for name in _CONTEXT.get(self.dataset.name, ()):
            step[last_column(name)] = previous[name] if previous else None
            step[name] = _value(self.dataset, name, rng)
        past.append(step)


def _value(dataset: Dataset, name: str, rng: np.random.Generator) -> Any:
    """A random value of the column; some are missing or, for a category, not in the spec's vocabulary."""
    if rng.random() < 0.1:
        return None
    if dataset.column(name).role.value == "categorical":
        return str(rng.choice(["a", "b", "c", "unseen"]))
    return float(rng.integers(0, 1000))


def write_lake(
    root: Path,
    dataset_name: str = "kuairand",
    first_day: str = "2022-04-10",
    last_day: str = "2022-04-11",
    *,
    users: int = 60,
    daily: int = 8,
    steps: int = 20,
    seed: int = 0,
    only: Collection[int] | None = None,
) -> tuple[Lake, FeatureSpec]:
    """A lake with `feature_spec`, `exposures`, `steps` and `sequences`.

    It has `users` users with 1 to 2 * daily - 1 exposures a day, or those of them whose ids are in `only`.
    """
    lake, dataset = Lake(root), get_dataset(dataset_name)
    days = days_between(first_day, last_day)
    spec = make_spec(dataset, days[0], days[-1])
    publish_spec(lake, dataset, spec)
    rng = np.random.default_rng(seed)
    journeys = [_Journey(1000 + u, dataset, spec, rng) for u in range(users)]
    profiles = [{name: _value(dataset, name, rng) for name in _PROFILE.get(dataset.name, ())} for _ in journeys]
    for number, day in enumerate(days):
        rows: list[dict[str, Any]] = []
        windows: list[dict[str, Any]] = []
        for journey, profile in zip(journeys, profiles, strict=True):
            first = len(journey.steps)
            for at_ms in np.sort(rng.choice(DAY_MS // 1000, size=int(rng.integers(1, 2 * daily)), replace=False)):
                journey.expose(FIRST_DAY_MS + number * DAY_MS + int(at_ms) * 1000)
            if only is None or journey.user_id in only:
                rows += [{**step, **profile} for step in journey.steps[first:]]
                windows += _windows(journey, profile, max(first, 1), steps)
        publish_day(lake, dataset, spec, day, rows, windows)
    return lake, spec


def publish_spec(lake: Lake, dataset: Dataset, spec: FeatureSpec) -> None:
    """Publish a spec on its last day; its table has no rows, because nothing reads them."""
    store_spec(lake, spec)
    schema = pa.schema([(column.name, arrow_type(column.dtype)) for column in FEATURE_SPEC_TABLE.columns])
    with work_folder() as work:
        pq.write_table(schema.empty_table(), work / "part-0.parquet")
        partition = lake[FEATURE_SPEC, dataset, spec.last_day]
        partition.publish(work, inputs={}, code="test", spec_version=spec.version)


def _windows(journey: _Journey, profile: dict[str, Any], first_label: int, n: int) -> list[dict[str, Any]]:
    """The day's windows: n / 2 consecutive labels each, after as many context steps as fit."""
    windows: list[dict[str, Any]] = []
    for start in range(first_label, len(journey.steps), n // 2):
        stop = min(start + n // 2, len(journey.steps))
        windows.append(window(journey.user_id, max(0, stop - n), start, stop - 1, n, len(windows)) | profile)
    return windows


def window(
    user_id: int, first_step: int, first_label: int, last_step: int, n: int = 20, number: int = 0
) -> dict[str, Any]:
    """A row of `sequences` without its profile."""
    return {
        "user_id": user_id, "window": number, "split": split_of(user_id), "length": n,
        "padding": n - (last_step + 1 - first_step), "first_step": first_step, "first_label": first_label,
        "last_step": last_step,
    }  # fmt: skip


def publish_day(
    lake: Lake, dataset: Dataset, spec: FeatureSpec, day: str, steps: Sequence[Mapping[str, Any]],
    windows: Sequence[Mapping[str, Any]],
) -> None:  # fmt: skip
    """Publish a day's `exposures`, `steps` and `sequences`, in two parts by user; values that rows lack are null.

    steps: the columns of both tables by name, counts by channel as one number for each channel of the spec.
    """
    sparse = [{**step, **_sparse_counts(step, dataset, spec)} for step in steps]
    for table, rows in (
        (exposures.exposures(dataset), sparse),
        (steps_table.steps(dataset), sparse),
        (sequences.sequences(dataset), windows),
    ):
        schema = stored_schema(table)
        with work_folder() as staged:
            for part in (0, 1):
                of_part = [{n: row.get(n) for n in schema.names} for row in rows if row["user_id"] % 2 == part]
                if of_part or part == 0:
                    pq.write_table(pa.Table.from_pylist(of_part, schema), staged / f"part-{part}.parquet")
            lake[table.name, dataset, day].publish(staged, inputs={}, code="test")


def _sparse_counts(step: Mapping[str, Any], dataset: Dataset, spec: FeatureSpec) -> dict[str, Any]:
    counts = {}
    for prefix in ("seen", "new"):
        names = {event: f"{prefix}_{event}_by_channel" for event in ("exposures", *dataset.gain_names)}
        if names["exposures"] in step:
            counts[f"{prefix}_by_channel"] = [
                {"channel": channel, **{event: step[name][k] for event, name in names.items()}}
                for k, channel in enumerate(spec.channels)
            ]
    return counts


def repeat_day(lake: Lake, dataset: Dataset, first_day: str, day: str, number: int) -> None:
    """Publish a copy of a lake's first day: the same steps and windows, `number` days later in each user's journey."""
    places = ("journey_position", "first_step", "first_label", "last_step")
    tables = {name: lake[name, dataset, first_day] for name in ("exposures", "steps", "sequences")}
    counts = Counter(tables["exposures"].read(["user_id"]).column("user_id").to_pylist())
    for name, partition in tables.items():
        with work_folder() as staged:
            for file in partition.files():
                rows = pq.read_table(file, partitioning=None)
                users = pq.read_table(_same_part(tables["exposures"], file), columns=["user_id"], partitioning=None)
                users = rows if "user_id" in rows.column_names else users
                later = [number * counts[user] for user in users.column("user_id").to_pylist()]
                for column in filter(rows.column_names.__contains__, places):
                    moved = pc.add(rows.column(column), pa.array(later, pa.int32()))
                    rows = rows.set_column(rows.column_names.index(column), column, moved)
                pq.write_table(rows, staged / f"{part_of(file)}.parquet")
            lake[name, dataset, day].publish(staged, inputs={}, code="test")


def copy_day(source: Partition, target: Partition) -> None:
    """Publish the files of one partition as another."""
    with work_folder() as staged:
        for file in source.files():
            shutil.copy(file, staged / f"{part_of(file)}.parquet")
        target.publish(staged, inputs={}, code="test")


def _same_part(partition: Partition, file: Path) -> Path:
    return next(other for other in partition.files() if part_of(other) == part_of(file))


def publish_journeys(lake: Lake, dataset: Dataset, day: str) -> None:
    """Publish the journeys at the end of a day, from the steps of all days so far, without the inputs of next steps."""
    days = [earlier for earlier in lake.days("steps", dataset) if earlier <= day]
    by_user: dict[int, list[dict[str, Any]]] = {}
    for earlier in days:
        exposure_rows, step_rows = (
            lake[table, dataset, earlier].read().to_pylist() for table in ("exposures", "steps")
        )
        for exposure, step in zip(exposure_rows, step_rows, strict=True):
            by_user.setdefault(exposure["user_id"], []).append({**exposure, **step})
    schema = stored_schema(journeys_table.journeys(dataset))
    with work_folder() as staged:
        for part in (0, 1):
            rows = [
                {"user_id": user, "memory": steps[-MEMORY_STEPS:], "next_step": {"seen_exposures": len(steps)}}
                for user, steps in sorted(by_user.items())
                if user % 2 == part
            ]
            pq.write_table(pa.Table.from_pylist(rows, schema), staged / f"part-{part}.parquet")
        partition = lake["journeys", dataset, day]
        partition.publish(staged, inputs=partition.current_inputs(), code="test")


def publish_propensities(lake: Lake, dataset: Dataset, day: str, propensity_of: Callable[[int], float | None]) -> None:
    """Publish the day's exposures again, each with the propensity that the function gives for its id."""
    partition = lake["exposures", dataset, day]
    with work_folder() as staged:
        for file in partition.files():
            rows = pq.read_table(file, partitioning=None)
            values = pa.array(map(propensity_of, rows.column("exposure_id").to_pylist()), pa.float64())
            place = rows.column_names.index("propensity")
            pq.write_table(rows.set_column(place, "propensity", values), staged / f"{part_of(file)}.parquet")
        partition.publish(staged, inputs={}, code="test")


def padded_windows(
    lake: Lake, dataset: Dataset, spec: FeatureSpec, days: Sequence[str], split: str | None = None
) -> pa.Table:
    """The windows of these days as padded lists, with the features of the spec."""
    names = [column.name for column in _read_columns(dataset, spec)]
    return pa.concat_tables(read_windows(lake, dataset, days, names, spec.channels, split))


def as_table(dataset: Dataset, spec: FeatureSpec, windows: list[dict[str, Any]], *, steps: int = 20) -> pa.Table:
    """Padded windows as an Arrow table with the columns and types of schemas/steps.py."""
    columns = _read_columns(dataset, spec)
    schema = pa.schema([(c.name, arrow_type(c.dtype)) for c in columns])
    empty = [None] * steps
    per_step = {c.name for c in columns if c.dtype.startswith("array") and c.known is not Known.AFTER}
    rows = [
        {name: window.get(name, empty if name in per_step else None) for name in schema.names} for window in windows
    ]
    return pa.Table.from_pylist(rows, schema)


def _read_columns(dataset: Dataset, spec: FeatureSpec) -> list[Column]:
    """The columns of a padded window, with the features that the spec keeps."""
    kept_names = {feature.name for feature in spec.kept_features}
    features = {column.name for column in (*feature_inputs(dataset), *profile_inputs(dataset))}
    return [c for c in window_columns(dataset) if c.name not in features or c.name in kept_names]

"""Made-up journeys of many users, and an untrained champion that scores them.

Journeys are as long as those of the dataset's sample, whose users have at least 10 steps. The feature spec keeps every
candidate feature, which is more than the specs of the samples keep.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.lake import Lake
from lakehouse.rows import ARROW_TYPES
from lakehouse.storage.scratch import work_folder
from mtorl_model.champion.registry import Registry
from mtorl_model.data.encoding import input_names
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.methods.common.channel_value import ChannelValues, channel_columns
from mtorl_model.methods.common.label_rows import LabelRows
from mtorl_model.methods.common.label_trees import LabelTrees
from mtorl_model.methods.model_folder import save_model
from mtorl_model.methods.mtorl.config import preset
from mtorl_model.methods.mtorl.method import MTORL
from schemas.contract import Column, Role
from schemas.dataset import Dataset
from schemas.steps import MEMORY_STEPS, count_inputs, feature_inputs, outcome_columns, profile_inputs
from schemas.tables import JOURNEYS
from schemas.tables.feature_spec import Feature, FeatureSpec, RewardScale

DAY = "2024-01-01"
# The mean number of steps beyond the tenth. With it, 17.9 % of the made-up users of Criteo and 46 % of those of
# KuaiRand have a window of 20 steps, as in the samples.
MEAN_STEPS_BEYOND_TEN = {"criteo": 5.2, "kuairand": 11.7}
_USERS_PER_BLOCK = 20_000
_FILES = 4
_LABELS = 10_000  # random labels to fit trees on
_CATEGORIES = tuple(str(k) for k in range(30))
_CHANNELS = tuple(f"c{k:02d}" for k in range(11))


def spec_of_all_candidates(dataset: Dataset) -> FeatureSpec:
    """A feature spec that keeps every candidate."""
    steps = [_feature(column, is_static=False) for column in feature_inputs(dataset)]
    profile = [_feature(column, is_static=True) for column in profile_inputs(dataset)]
    weights = tuple(gain.weight for gain in dataset.gains)
    channels, reward = dataset.channels or _CHANNELS, RewardScale(0.5, 0.0, 1.0)
    return FeatureSpec(dataset.name, DAY, DAY, channels, dataset.gain_names, weights, reward, (*steps, *profile))


def _feature(column: Column, *, is_static: bool) -> Feature:
    if column.role is Role.CATEGORICAL:
        return Feature(column.name, column.role.value, is_static, True, vocabulary=_CATEGORIES)
    return Feature(column.name, column.role.value, is_static, True, mean=0.0, std=1.0)


def publish_champion(lake: Lake, dataset: Dataset, spec: FeatureSpec, preset_name: str, day: str = DAY) -> None:
    """Register an untrained model of the preset's size and members, as if it was trained through that day.

    Its networks have random weights; its trees and values, if the preset has them, are fitted on random numbers.
    """
    shares = tuple(1 / len(spec.channels) for _ in spec.channels)
    initial = InitialPolicy(spec.channels, shares, dict.fromkeys(spec.gains, 0.3), shares)
    model = MTORL(preset(preset_name, dataset.name), spec, initial).initialise()
    if model.config.model.trees:
        names = input_names(spec, model.config.reward_inputs)
        labels = _random_labels(sum(map(len, names)) + len(spec.channels), len(spec.channels), len(spec.gains))
        model.trees = LabelTrees.fit(labels, model.config.boosting, len(spec.channels))
        records = channel_columns(names, spec.channels)
        model.values = ChannelValues.fit(labels, records, replace(model.config.values, value_caution=0.0))
    registry = Registry(lake, dataset)
    with work_folder() as staged:
        save_model(staged, model)
        registry.make_champion(registry.register(staged, {}, [], identity="made up", day=day))


def _random_labels(features: int, channels: int, gains: int) -> LabelRows:
    rng = np.random.default_rng(0)
    return LabelRows(
        rng.standard_normal((_LABELS, features)).astype(np.float32), rng.integers(0, channels, _LABELS),
        rng.integers(0, 2, (_LABELS, gains)).astype(np.float32), np.ones((_LABELS, gains), np.float32),
        np.zeros(_LABELS, np.float32), np.arange(_LABELS) // 20, None,
    )  # fmt: skip


def publish_journeys(lake: Lake, dataset: Dataset, spec: FeatureSpec, users: int, *, repaired: int = 0) -> None:
    """Publish the columns of the journeys that scoring reads.

    repaired: the number of users whose journeys differ from a call without it; the other journeys are the same.
    """
    block = _random_users(dataset, spec, min(users, _USERS_PER_BLOCK), np.random.default_rng(0))
    repaired_block = _random_users(dataset, spec, repaired, np.random.default_rng(1)) if repaired else None
    with work_folder() as staged:
        for number in range(_FILES):
            ids = np.arange(number, users, _FILES)
            with pq.ParquetWriter(staged / f"{number}-made-up.parquet", block.schema, compression="zstd") as writer:
                for start in range(0, len(ids), _USERS_PER_BLOCK):
                    part = ids[start : start + _USERS_PER_BLOCK]
                    rows = block.slice(min(number * len(part), len(block) - len(part)), len(part))
                    if number == start == 0 and repaired_block is not None:
                        rows = pa.concat_tables([repaired_block, rows.slice(len(repaired_block))])
                    writer.write_table(rows.set_column(0, block.schema.field(0), _user_ids(dataset, part)))
        lake[JOURNEYS, dataset, DAY].publish(staged, inputs={}, code="made up")


def _user_ids(dataset: Dataset, ids: np.ndarray) -> pa.Array:
    return pa.array(ids).cast(ARROW_TYPES[dataset.user_id.column.dtype])


def _random_users(dataset: Dataset, spec: FeatureSpec, users: int, rng: np.random.Generator) -> pa.Table:
    """Users with random steps: the cost of scoring does not depend on the values."""
    beyond_ten = MEAN_STEPS_BEYOND_TEN.get(dataset.name, 5.0)
    length = np.minimum(10 + rng.exponential(beyond_ten, users).astype(int), MEMORY_STEPS)
    inputs = (*feature_inputs(dataset), *count_inputs(dataset))
    outcome = [c for c in outcome_columns(dataset) if c.name in ("channel", *dataset.gain_names, "cost")]
    steps = _structs((*outcome, *inputs), spec, int(length.sum()), rng)
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    return pa.table({
        "user_id": _user_ids(dataset, np.arange(users)),
        **{c.name: _values(c, spec, users, rng) for c in profile_inputs(dataset)},
        "memory": pa.ListArray.from_arrays(pa.array(offsets), steps),
        "next_step": _structs(inputs, spec, users, rng),
    })  # fmt: skip


def _structs(columns: Sequence[Column], spec: FeatureSpec, count: int, rng: np.random.Generator) -> pa.StructArray:
    """Steps with counts by channel: earlier exposures in three channels, and a new exposure in one."""
    values = {c.name: _values(c, spec, count, rng) for c in columns}
    values["seen_by_channel"] = _counts(spec, count, 3, rng)
    values["new_by_channel"] = _counts(spec, count, 1, rng)
    return pa.StructArray.from_arrays(list(values.values()), list(values))


def _values(column: Column, spec: FeatureSpec, count: int, rng: np.random.Generator) -> pa.Array:
    if column.name == "channel":
        return pa.array(spec.channels).take(pa.array(rng.integers(0, len(spec.channels), count)))
    if column.dtype == "string":
        return pa.array(_CATEGORIES).take(pa.array(rng.integers(0, len(_CATEGORIES), count)))
    if column.dtype == "double":
        return pa.array(rng.standard_normal(count))
    return pa.array(rng.integers(0, 2, count), ARROW_TYPES[column.dtype])


def _counts(spec: FeatureSpec, count: int, channels: int, rng: np.random.Generator) -> pa.ListArray:
    """Counts of exposures and gains in this many adjacent channels."""
    channels = min(channels, len(spec.channels))
    first = rng.integers(0, len(spec.channels) - channels + 1, count)
    code = (first[:, None] + np.arange(channels)).ravel()
    exposures = rng.integers(1, 20, len(code)).astype(np.int32)
    gains = [pa.array(exposures // 3) for _ in spec.gains]
    counts = pa.StructArray.from_arrays(
        [pa.array(spec.channels).take(pa.array(code)), pa.array(exposures), *gains],
        ["channel", "exposures", *spec.gains],
    )
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(code) + 1, channels, dtype=np.int32)), counts)

"""Made-up scores of many users: the tables that a plan of the budget reads."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.lake import Lake
from lakehouse.storage.scratch import work_folder
from schemas.tables import CHANNEL_ALLOCATION, CHANNEL_POLICIES, JOURNEYS, USER_REWARD_RANKS

DATASET, DAY = "criteo", "2017-01-08"
_USERS_PER_BLOCK = 100_000
_FIRST_MS, _STEP_MS = 1_483_228_800_000, 3_600_000  # of the steps of a user


def publish_scores(lake: Lake, users: int, channels: int) -> None:
    """Publish the columns of the journeys and of the nightly scores that a plan reads."""
    rng = np.random.default_rng(0)
    names = [f"c{k:02d}" for k in range(channels)]
    allocation = _allocation(names, rng)
    blocks = [np.arange(start, min(start + _USERS_PER_BLOCK, users)) for start in range(0, users, _USERS_PER_BLOCK)]
    # Scores are accepted only with the journeys from which they were made.
    journeys = _publish(lake, JOURNEYS, (_journeys(block, names, rng) for block in blocks), users, "")
    _publish(lake, CHANNEL_POLICIES, (_policies(block, names, rng) for block in blocks), users, journeys)
    _publish(lake, USER_REWARD_RANKS, (_ranks(block, rng) for block in blocks), users, journeys)
    _publish(lake, CHANNEL_ALLOCATION, [allocation], users, journeys)


def _publish(lake: Lake, table: str, blocks: Iterable[pa.Table], users: int, journeys: str) -> str:
    """Publish a table; its fingerprint. journeys: the fingerprint of the journeys, named as an input."""
    with work_folder() as staged:
        writer = None
        for block in blocks:
            writer = writer or pq.ParquetWriter(staged / "part-0.parquet", block.schema)
            writer.write_table(block)
        if writer:
            writer.close()
        inputs = {f"{DATASET}/{JOURNEYS}": journeys, "model": "made up"}
        return lake[table, DATASET, DAY].publish(staged, inputs=inputs, code="made up").fingerprint


def _allocation(names: list[str], rng: np.random.Generator) -> pa.Table:
    channels = len(names)
    exposures = rng.integers(1_000, 1_000_000, channels)
    gained = (0.3 * exposures).astype(np.int64)
    return pa.table({
        "channel": names, "position": pa.array(range(channels), pa.int32()), "exposures": exposures, "gained": gained,
        "reliable": gained, "cost_nano": exposures * rng.integers(50_000, 200_000, channels),
        "cost_gained_nano": gained * rng.integers(200_000, 500_000, channels), "alpha": [0.5] * channels,
    })  # fmt: skip


def _policies(user_id: np.ndarray, names: list[str], rng: np.random.Generator) -> pa.Table:
    users, channels = len(user_id), len(names)
    policy = rng.dirichlet(np.full(channels, 0.5), users)
    offsets = pa.array(np.arange(0, users * channels + 1, channels, dtype=np.int32))
    return pa.table({
        "user_id": user_id,
        "policy": pa.MapArray.from_arrays(offsets, pa.array(names * users), pa.array(policy.ravel())),
        "source": ["model"] * users,
        "model_version": ["made up/1"] * users,
    })  # fmt: skip


def _ranks(user_id: np.ndarray, rng: np.random.Generator) -> pa.Table:
    click = rng.beta(1.5, 4.0, len(user_id))
    return pa.table({"user_id": user_id, "predicted_reward": 0.15 * click, "predicted_click": click})


def _journeys(user_id: np.ndarray, names: list[str], rng: np.random.Generator) -> pa.Table:
    """Two channels per user, with sparse counts by name as in the journeys, and all of their exposures as steps."""
    users, channels = len(user_id), len(names)
    first = rng.integers(0, channels - 1, users)
    channel = np.array(names)[np.stack([first, rng.integers(first + 1, channels)], axis=1).ravel()]
    exposures = rng.integers(1, 20, 2 * users).astype(np.int32)
    clicks = exposures // 3
    counts = pa.StructArray.from_arrays(
        [pa.array(channel), pa.array(exposures), pa.array(clicks.astype(np.int32)), pa.array(0 * exposures)],
        names=["channel", "exposures", "click", "conversion"],
    )
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, 2 * users + 1, 2, dtype=np.int32)), counts)
    total = exposures.reshape(users, 2).sum(axis=1)
    position = np.arange(total.sum()) - np.repeat(np.cumsum(total) - total, total)
    in_channel = np.arange(total.sum()) - np.repeat(np.cumsum(exposures) - exposures, exposures)
    steps = pa.StructArray.from_arrays(
        [
            pa.array(_FIRST_MS + _STEP_MS * position),
            pa.array(np.repeat(channel, exposures)),
            pa.array((in_channel < np.repeat(clicks, exposures)).astype(np.int32)),
        ],
        names=["exposed_at_ms", "channel", "click"],
    )
    memory = pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(total)).astype(np.int32)), steps)
    next_step = pa.StructArray.from_arrays([lists], names=["seen_by_channel"])
    return pa.table({"user_id": user_id, "memory": memory, "next_step": next_step})

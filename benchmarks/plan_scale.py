"""How long a plan for many users takes: python -m benchmarks.plan_scale [--users 1000000] [--channels 11]

Publishes made-up scores of that many users in a folder that is gone afterwards, plans a budget with the nightly entry
point in a process of its own on two cores, and prints that process's seconds and memory. Beyond 20 s or 4 GiB it fails.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.lake import Lake
from lakehouse.staging import staging_folder
from schemas.dataset import get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import (
    CHANNEL_ALLOCATION,
    CHANNEL_POLICIES,
    JOURNEYS,
    USER_REWARD_RANKS,
)

DAY = "2017-01-08"
_BLOCK = 100_000
_CORES, _MOST_S, _MOST_GIB = 2, 20, 4  # what a plan for a million users may take


def publish_scores(lake: Lake, users: int, channels: int) -> None:
    """What the nightly scoring leaves behind, as far as a plan reads it."""
    rng = np.random.default_rng(0)
    names = [f"c{k:02d}" for k in range(channels)]
    exposures = rng.integers(1_000, 1_000_000, channels)
    gained = (0.3 * exposures).astype(np.int64)
    allocation = pa.table({
        "channel": names, "position": pa.array(range(channels), pa.int32()), "exposures": exposures, "gained": gained,
        "reliable": gained, "cost_nano": exposures * rng.integers(50_000, 200_000, channels),
        "cost_gained_nano": gained * rng.integers(200_000, 500_000, channels), "alpha": [0.5] * channels,
    })  # fmt: skip
    blocks = [np.arange(start, min(start + _BLOCK, users)) for start in range(0, users, _BLOCK)]
    scored = {"journeys/dataset=criteo": "", "model": "made up"}

    def policies(user: np.ndarray) -> pa.Table:
        policy = rng.dirichlet(np.full(channels, 0.5), len(user))
        offsets = pa.array(np.arange(0, len(user) * channels + 1, channels, dtype=np.int32))
        maps = pa.MapArray.from_arrays(offsets, pa.array(names * len(user)), pa.array(policy.ravel()))
        return pa.table({
            "user_id": user, "policy": maps, "source": ["model"] * len(user),
            "model_version": ["made up/1"] * len(user),
        })  # fmt: skip

    def ranks(user: np.ndarray) -> pa.Table:
        click = rng.beta(1.5, 4.0, len(user))
        return pa.table({"user_id": user, "predicted_reward": 0.15 * click, "predicted_click": click})

    def records(user: np.ndarray) -> pa.Table:
        """Two channels a user, as journeys keep them: sparse, by name."""
        first = rng.integers(0, channels - 1, len(user))
        channel = np.array(names)[np.stack([first, rng.integers(first + 1, channels)], axis=1).ravel()]
        shown = rng.integers(1, 20, 2 * len(user)).astype(np.int32)
        counts = pa.StructArray.from_arrays(
            [pa.array(channel), pa.array(shown), pa.array((shown // 3).astype(np.int32)), pa.array(0 * shown)],
            names=["channel", "exposures", "click", "conversion"],
        )
        lists = pa.ListArray.from_arrays(pa.array(np.arange(0, 2 * len(user) + 1, 2, dtype=np.int32)), counts)
        return pa.table({"user_id": user, "next_step": pa.StructArray.from_arrays([lists], names=["seen_by_channel"])})

    contents = {
        JOURNEYS: (records(block) for block in blocks),
        CHANNEL_POLICIES: (policies(block) for block in blocks),
        USER_REWARD_RANKS: (ranks(block) for block in blocks),
        CHANNEL_ALLOCATION: iter([allocation]),
    }
    for name, tables in contents.items():
        with staging_folder(lake) as staged:
            writer = None
            for table in tables:
                writer = writer or pq.ParquetWriter(staged / "part-00000.parquet", table.schema)
                writer.write_table(table)
            if writer:
                writer.close()
            found = lake[name, "criteo", DAY].publish(staged, rows=users, inputs=scored, code="made up")
            scored = scored | {"journeys/dataset=criteo": found.fingerprint} if name == JOURNEYS else scored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=11)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        publish_scores(Lake(Path(folder)), args.users, args.channels)
        budget = 0.2 * args.users * 3e-4  # about a fifth of what showing everybody something costs
        command = [sys.executable, "-m", "mtorl_model.plan_budget", "--dataset", get_dataset("criteo").name,
                   "--lake", folder, "--day", DAY, f"--budget={budget}"]  # fmt: skip
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])  # the process below inherits it
        start = time.monotonic()
        subprocess.run(command, check=True)
        seconds = time.monotonic() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    gib = used.ru_maxrss / 2**20
    print(
        f"{args.users:,} users x {args.channels} channels: {seconds:.1f} s, "
        f"{used.ru_utime + used.ru_stime:.1f} s of processor time, {gib:.2f} GiB"
    )
    if seconds > _MOST_S or gib > _MOST_GIB:
        raise UserError(f"more than {_MOST_S} s or {_MOST_GIB} GiB on {_CORES} cores: slower, or the machine is busy")


if __name__ == "__main__":
    exit_with_one_line(main)

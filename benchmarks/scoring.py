"""How many users a night's scoring takes a second: python -m benchmarks.scoring [--users 100000] [--dataset criteo]

Publishes made-up journeys of that many users and an untrained champion of a preset in a folder that is gone afterwards,
scores them with the nightly entry point in a process of its own, on two cores where there is no GPU, and prints that
process's figures, its start included. Journeys are as long as those of the dataset's sample, which have at least 10
steps; every candidate feature is kept, which is more than the samples keep. --again scores the day a second time with
repaired journeys of one user in a hundred: the others' answers are carried over.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lakehouse.lake import Lake
from lakehouse.rows import ARROW_TYPES
from lakehouse.staging import staging_folder
from mtorl_model.champion.registry import Registry
from mtorl_model.data.device import device
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.methods.model_folder import save_model
from mtorl_model.methods.mtorl.config import PRESETS, preset
from mtorl_model.methods.mtorl.method import MTORL
from schemas.contract import Column, Role
from schemas.dataset import Dataset, get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.steps import MEMORY_STEPS, count_inputs, feature_inputs, outcome_columns, profile_inputs
from schemas.tables import JOURNEYS
from schemas.tables.feature_spec import Feature, FeatureSpec, RewardScale

DAY = "2024-01-01"
CORES = 2
# The mean number of steps beyond the tenth: with it, 17.9 % of Criteo's made-up users and 46 % of KuaiRand's have a
# window of 20 steps, as in the samples.
BEYOND_TEN = {"criteo": 5.2, "kuairand": 11.7}
_BLOCK = 20_000  # users
_FILES = 4
_CATEGORIES = tuple(str(k) for k in range(30))
_CHANNELS = tuple(f"c{k:02d}" for k in range(11))


def spec_of(dataset: Dataset) -> FeatureSpec:
    """Keeps every candidate."""
    steps = [(column, False) for column in feature_inputs(dataset)]
    profile = [(column, True) for column in profile_inputs(dataset)]
    features = tuple(
        Feature(c.name, c.role.value, static, True, vocabulary=_CATEGORIES) if c.role is Role.CATEGORICAL
        else Feature(c.name, c.role.value, static, True, mean=0.0, std=1.0)
        for c, static in (*steps, *profile)
    )  # fmt: skip
    return FeatureSpec(
        dataset.name, DAY, DAY, dataset.channels or _CHANNELS, dataset.gain_names,
        tuple(gain.weight for gain in dataset.gains), RewardScale(0.5, 0.0, 1.0), features,
    )  # fmt: skip


def publish_champion(lake: Lake, dataset: Dataset, spec: FeatureSpec, preset_name: str, day: str = DAY) -> None:
    """An untrained model of the preset's size and members, as if trained through that day."""
    shares = tuple(1 / len(spec.channels) for _ in spec.channels)
    initial = InitialPolicy(spec.channels, shares, dict.fromkeys(spec.gains, 0.3), shares)
    model = MTORL(preset(preset_name, dataset.name), spec, initial).initialise()
    registry = Registry(lake, dataset)
    with staging_folder(lake) as staged:
        save_model(staged, model)
        registry.make_champion(registry.register(staged, {}, [], identity="made up", day=day))


def publish_journeys(lake: Lake, dataset: Dataset, spec: FeatureSpec, users: int, *, repaired: int = 0) -> None:
    """What scoring reads of the journeys, of so many users; `repaired` of them differ from one call to the next."""
    rng = np.random.default_rng(0)
    first = _block(dataset, spec, min(users, _BLOCK), rng)
    other = _block(dataset, spec, repaired, np.random.default_rng(1)) if repaired else None
    with staging_folder(lake) as staged:
        for number in range(_FILES):
            ids = np.arange(number, users, _FILES)
            with pq.ParquetWriter(staged / f"{number}-made-up.parquet", first.schema, compression="zstd") as writer:
                for start in range(0, len(ids), _BLOCK):
                    part = ids[start : start + _BLOCK]
                    rows = first.slice(min(number * len(part), len(first) - len(part)), len(part))
                    if number == start == 0 and other is not None:
                        rows = pa.concat_tables([other, rows.slice(len(other))])
                    writer.write_table(rows.set_column(0, first.schema.field(0), _user_ids(dataset, part)))
        lake[JOURNEYS, dataset, DAY].publish(staged, rows=users, inputs={}, code="made up")


def _user_ids(dataset: Dataset, ids: np.ndarray) -> pa.Array:
    return pa.array(ids).cast(ARROW_TYPES[dataset.user_id.column.dtype])


def _block(dataset: Dataset, spec: FeatureSpec, users: int, rng: np.random.Generator) -> pa.Table:
    """Users with random steps: what scoring costs does not depend on what they hold."""
    beyond = BEYOND_TEN.get(dataset.name, 5.0)
    length = np.minimum(10 + rng.exponential(beyond, users).astype(int), MEMORY_STEPS)
    known = (*feature_inputs(dataset), *count_inputs(dataset))
    outcome = [c for c in outcome_columns(dataset) if c.name in ("channel", *dataset.gain_names, "cost")]
    steps = _structs((*outcome, *known), dataset, spec, int(length.sum()), rng)
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    return pa.table({
        "user_id": _user_ids(dataset, np.arange(users)),
        **{c.name: _values(c, spec, users, rng) for c in profile_inputs(dataset)},
        "memory": pa.ListArray.from_arrays(pa.array(offsets), steps),
        "next_step": _structs(known, dataset, spec, users, rng),
    })  # fmt: skip


def _structs(
    columns: Sequence[Column], dataset: Dataset, spec: FeatureSpec, count: int, rng: np.random.Generator
) -> pa.StructArray:
    values = {c.name: _values(c, spec, count, rng) for c in columns}
    # Three channels seen so far, and one new exposure.
    by_channel = {"seen_by_channel": _counts(dataset, spec, count, 3, rng),
                  "new_by_channel": _counts(dataset, spec, count, 1, rng)}  # fmt: skip
    values |= by_channel
    return pa.StructArray.from_arrays(list(values.values()), list(values))


def _values(column: Column, spec: FeatureSpec, count: int, rng: np.random.Generator) -> pa.Array:
    if column.name == "channel":
        return pa.array(spec.channels).take(pa.array(rng.integers(0, len(spec.channels), count)))
    if column.dtype == "string":
        return pa.array(_CATEGORIES).take(pa.array(rng.integers(0, len(_CATEGORIES), count)))
    if column.dtype == "double":
        return pa.array(rng.standard_normal(count))
    return pa.array(rng.integers(0, 2, count), ARROW_TYPES[column.dtype])


def _counts(dataset: Dataset, spec: FeatureSpec, count: int, channels: int, rng: np.random.Generator) -> pa.ListArray:
    channels = min(channels, len(spec.channels))
    first = rng.integers(0, len(spec.channels) - channels + 1, count)
    code = (first[:, None] + np.arange(channels)).ravel()
    shown = rng.integers(1, 20, len(code)).astype(np.int32)
    counts = pa.StructArray.from_arrays(
        [pa.array(spec.channels).take(pa.array(code)), pa.array(shown), *(pa.array(shown // 3) for _ in spec.gains)],
        ["channel", "exposures", *spec.gains],
    )
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(code) + 1, channels, dtype=np.int32)), counts)


def score(lake: Lake, dataset: Dataset) -> dict[str, float]:
    """Seconds, processor seconds and greatest resident memory of the nightly entry point."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = (sys.executable, "-m", "mtorl_model.score", "--dataset", dataset.name, "--lake", lake.root, "--day", DAY)
    start, peak = time.monotonic(), 0
    with subprocess.Popen(command, stdout=sys.stderr) as process:
        while process.poll() is None:
            peak = max(peak, _peak_bytes(process.pid))
            time.sleep(0.05)
    seconds = time.monotonic() - start
    if process.returncode:
        raise UserError(f"scoring ended with exit code {process.returncode}: see above")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "peak_bytes": peak,
    }


def _peak_bytes(pid: int) -> int:
    """So far. (What the system says at the end, ru_maxrss, counts the memory of this process as well.)"""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--dataset", default="criteo")
    parser.add_argument("--preset", default="small", choices=sorted(PRESETS))
    parser.add_argument("--again", action="store_true", help="score repaired journeys on top; its figures are told")
    args = parser.parse_args()
    if args.users < 1:
        raise UserError(f"--users {args.users}: at least 1")
    dataset = get_dataset(args.dataset)
    if device() == "cpu":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # the process below inherits it
    with tempfile.TemporaryDirectory() as folder:
        lake, spec = Lake(Path(folder)), spec_of(dataset)
        publish_champion(lake, dataset, spec, args.preset)
        publish_journeys(lake, dataset, spec, args.users)
        figures = score(lake, dataset)
        if args.again:
            publish_journeys(lake, dataset, spec, args.users, repaired=max(args.users // 100, 1))
            figures = score(lake, dataset)
    by = torch.cuda.get_device_name() if device() == "cuda" else f"cpu, {CORES} cores"
    rate = round(args.users / figures["seconds"])
    print(json.dumps({"device": by, "users": args.users, **figures, "users_per_second": rate}))


if __name__ == "__main__":
    exit_with_one_line(main)

"""How long a day's audits take: python -m benchmarks.audit_scale [--dataset kuairand] [--rows 1000000]

Builds some small generated days with the jobs themselves, in a folder that is gone afterwards: as many as it takes
for the last to be compared with those before it. Makes large days of them: every user many times over, under other
ids, until there are a quarter of so many exposures, and so many. The last day's tables are then audited and its drift
is measured, each by its entry point in a process of its own on two cores; seconds and memory are printed. Fails where
the largest day takes more than 60 s, or where the time grows faster than the day. What the small day takes is nearly
all start-up of the four processes, and is taken off before times are compared.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from jobs.quality.partition_view import opened
from lakehouse.lake import Lake
from lakehouse.manifest import read_manifest
from lakehouse.staging import staging_folder
from schemas.dataset import get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import split_sql
from schemas.tables import (
    EXPOSURES,
    FEATURE_SPEC,
    JOURNEYS,
    QUARANTINE,
    SEQUENCES,
)

LAYOUTS = ("kuairand", "criteo")  # that the generator can write
TABLES = (EXPOSURES, QUARANTINE, JOURNEYS, SEQUENCES)
_TOGETHER = ((EXPOSURES, QUARANTINE), (JOURNEYS,), (SEQUENCES,))  # by one process each
_CORES, _MOST_S = 2, 60
_SMALL_ROWS, _SMALL_USERS = 12_500, 2_500  # of a small day
_STEP = 4  # the smaller of the two large days has so many times fewer rows
_NOISE = 1.25  # what a busy machine does to a ratio of times; a time that grows with the square is off by _STEP
_NEEDED = {JOURNEYS: 2, SEQUENCES: 1}  # latest days of these; of the others all
# A copy's rows: users under ids that no other copy has, exposures under ids next to their own, so that order and
# uniqueness stay (ids are 64-bit hashes, far apart). Users fall into other splits.
_USER, _EXPOSURE = "user_id + copy * 1000000000 AS user_id", "exposure_id + copy AS exposure_id"
_COPIED = {
    EXPOSURES: f"{_USER}, {_EXPOSURE}",
    QUARANTINE: "reason AS reason",
    JOURNEYS: f"{_USER}, list_transform(memory, lambda s: struct_update(s, exposure_id := s.exposure_id + copy))"
    " AS memory",
    SEQUENCES: f"{_USER}, list_transform(exposure_id, lambda e: e + copy) AS exposure_id,"
    f" {split_sql('user_id + copy * 1000000000')} AS split",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default=LAYOUTS[0], choices=LAYOUTS)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])  # the processes below inherit it
    if args.rows <= _STEP * _SMALL_ROWS:
        raise UserError(f"--rows {args.rows}: more than {_STEP * _SMALL_ROWS:,} are needed to see the time grow")
    spent, sizes = [], []
    with tempfile.TemporaryDirectory() as folder:
        small = built(Path(folder), args.dataset)
        for rows in (_SMALL_ROWS, args.rows // _STEP, args.rows):
            lake = Lake(Path(folder) / str(rows))
            # In a process of its own: what one is started from counts as its memory, too.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                pool.submit(enlarged, small, lake, args.dataset, max(1, round(rows / _SMALL_ROWS))).result()
            day = lake.days(EXPOSURES, args.dataset)[-1]
            sizes.append(_rows(lake, args.dataset, day))
            spent.append(audited(lake, args.dataset, day))
            print(f"{sizes[-1]:,} exposures: audits and drift in {spent[-1]:.1f} s", flush=True)
            shutil.rmtree(lake.root)
    larger, longer = growth(sizes), growth(spent)
    print(f"start-up apart, {larger:.2f} times the exposures take {longer:.2f} times as long")
    if spent[-1] > _MOST_S or longer > _NOISE * larger:
        raise UserError(f"more than {_MOST_S} s, or growing faster than the day: slower, or the machine is busy")


def growth(values: Sequence[float]) -> float:
    """How many times the third is the second, the first taken off both; infinite where the second has nothing left."""
    first, second, third = values
    return (third - first) / (second - first) if second > first else math.inf


def built(folder: Path, dataset: str) -> Lake:
    """A lake of small days: the last one, and as many before it as tell what is usual."""
    raw, lake = folder / "raw", Lake(folder / "small")
    count = get_dataset(dataset).quality.enough_days + 1
    _run("jobs.generate_log", "--layout", dataset, "--out", str(raw), "--days", str(count),
         "--rows", str(count * _SMALL_ROWS), "--users", str(_SMALL_USERS))  # fmt: skip
    flags = ("--dataset", dataset, "--lake", str(lake.root))
    _run("jobs.build_exposures", *flags, "--raw", str(raw))
    days = lake.days(EXPOSURES, dataset)
    for day in days[-2:]:
        _run("jobs.build_journeys", *flags, "--day", day)
    _run("jobs.build_feature_spec", *flags, "--from", days[0], "--to", days[-2])
    _run("jobs.build_sequences", *flags, "--from", days[0], "--to", days[-1])
    return lake


def enlarged(small: Lake, large: Lake, dataset: str, copies: int) -> None:
    """Make the large lake: so many copies of every user's rows. The days before the last are audited, as on any day."""
    shutil.copytree(small.table(FEATURE_SPEC, dataset), large.table(FEATURE_SPEC, dataset))
    days = small.days(EXPOSURES, dataset)
    for table in TABLES:
        for day in days[-_NEEDED.get(table, 0) :]:
            _copy_rows(small, large, table, dataset, day, copies)
    # Leaves the profiles that the last day is compared with.
    flags = ("--dataset", dataset, "--lake", str(large.root))
    _run("jobs.audit_table", *flags, "--table", EXPOSURES, "--to", days[-2])
    _run("jobs.measure_drift", *flags, "--to", days[-2])


def _copy_rows(small: Lake, large: Lake, table: str, dataset: str, day: str, copies: int) -> None:
    partition = small[table, dataset, day].path
    found = read_manifest(partition)
    if found is None:
        raise UserError(f"no {table} for {dataset} on {day} in {small.root}")
    with staging_folder(large) as staged:
        with opened(partition) as connection:
            rows = f'SELECT * EXCLUDE (copy) REPLACE ({_COPIED[table]}) FROM "partition", range({copies}) AS c(copy)'
            connection.execute(f"COPY ({rows}) TO '{staged / 'part-00000.parquet'}' (FORMAT parquet)")
        resting = table in (JOURNEYS, SEQUENCES)
        large[table, dataset, day].publish(
            staged,
            rows=found.rows * copies,
            code=found.code_version,
            inputs=large[JOURNEYS, dataset, day].current_inputs() if resting else found.inputs,
            spec_version=found.spec_version,
            counts={name: count * copies for name, count in found.counts.items()},
        )


def audited(lake: Lake, dataset: str, day: str) -> float:
    """Seconds that the day's audits and its drift take together; a line each."""
    total = 0.0
    for command in _audits(("--dataset", dataset, "--lake", str(lake.root)), day):
        start = time.monotonic()
        kib = _run(*command)
        seconds = time.monotonic() - start
        tables = [word for word in command if word in TABLES]
        print(f"  {' and '.join(tables) or 'drift':24} {seconds:6.1f} s {kib / 2**20:6.2f} GiB", flush=True)
        total += seconds
    return total


def _audits(flags: tuple[str, ...], day: str) -> list[tuple[str, ...]]:
    tables = [("jobs.audit_table", *flags, "--from", day, "--to", day, "--table", *names) for names in _TOGETHER]
    return [*tables, ("jobs.measure_drift", *flags, "--day", day)]


def _rows(lake: Lake, dataset: str, day: str) -> int:
    manifest = lake[EXPOSURES, dataset, day].manifest
    return manifest.rows if manifest else 0


def _run(*command: str) -> int:
    """Run an entry point; its memory at the most, KiB. What it says is shown only where it fails."""
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with process:
        said = process.stdout.read().decode(errors="replace") if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise UserError(f"{command[0]} ended with status {process.returncode}: {said[-2000:]}")
    return used.ru_maxrss


if __name__ == "__main__":
    exit_with_one_line(main)

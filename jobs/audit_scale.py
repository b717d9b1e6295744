"""How long a day's audits take: python -m jobs.audit_scale [--dataset kuairand] [--rows 1000000]

Builds two small generated days with the jobs themselves, in a folder that is gone afterwards, and makes large days of
them: every user many times over, under other ids, until there are a quarter of so many exposures, and so many. The
second day's tables are then audited and its drift is measured, each by its entry point in a process of its own on two
cores; seconds and memory are printed. Fails where the larger day takes more than 60 s, or more than so many times
longer as it has more rows.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobs.partition_view import opened
from schemas.errors import UserError, exit_with_one_line
from schemas.freshness import history_inputs
from schemas.paths import Lake
from schemas.publishing import publish, read_manifest, staging_folder
from schemas.splits import split_sql
from schemas.tables import exposures, feature_spec, journeys, quarantine, sequences

LAYOUTS = ("kuairand", "criteo")  # that the generator can write
TABLES = (exposures.NAME, quarantine.NAME, journeys.NAME, sequences.NAME)
_CORES, _MOST_S = 2, 60
_SMALL_ROWS, _ROWS_PER_USER = 12_500, 10  # of a small day
_STEP = 4  # the smaller of the two large days has so many times fewer rows
# A copy's rows: users under ids that no other copy has, exposures under ids next to their own, so that order and
# uniqueness stay (ids are 64-bit hashes, far apart). Users fall into other splits.
_USER, _EXPOSURE = "user_id + copy * 1000000000 AS user_id", "exposure_id + copy AS exposure_id"
_COPIED = {
    exposures.NAME: f"{_USER}, {_EXPOSURE}",
    quarantine.NAME: "reason AS reason",
    journeys.NAME: f"{_USER}, list_transform(memory, lambda s: struct_update(s, exposure_id := s.exposure_id + copy))"
    " AS memory",
    sequences.NAME: f"{_USER}, list_transform(exposure_id, lambda e: e + copy) AS exposure_id,"
    f" {split_sql('user_id + copy * 1000000000')} AS split",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default=LAYOUTS[0], choices=LAYOUTS)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])  # the processes below inherit it
    spent, sizes = [], []
    with tempfile.TemporaryDirectory() as folder:
        small = built(Path(folder), args.dataset)
        for rows in (args.rows // _STEP, args.rows):
            lake = enlarged(small, Lake(Path(folder) / str(rows)), args.dataset, max(1, round(rows / _SMALL_ROWS)))
            day = lake.days(exposures.NAME, args.dataset)[-1]
            sizes.append(_rows(lake, args.dataset, day))
            spent.append(audited(lake, args.dataset, day))
            print(f"{sizes[-1]:,} exposures: audits and drift in {spent[-1]:.1f} s", flush=True)
    growth, larger = spent[1] / spent[0], sizes[1] / sizes[0]
    print(f"{larger:.2f} times the exposures take {growth:.2f} times as long")
    if spent[1] > _MOST_S or growth > larger:
        raise UserError(f"more than {_MOST_S} s, or growing faster than the day: slower, or the machine is busy")


def built(folder: Path, dataset: str) -> Lake:
    """A lake of two small days."""
    raw, lake = folder / "raw", Lake(folder / "small")
    _run("jobs.generate_log", "--layout", dataset, "--out", str(raw), "--days", "2", "--rows", str(2 * _SMALL_ROWS),
         "--users", str(2 * _SMALL_ROWS // _ROWS_PER_USER))  # fmt: skip
    flags = ("--dataset", dataset, "--lake", str(lake.root))
    _run("jobs.build_exposures", *flags, "--raw", str(raw))
    first, day = lake.days(exposures.NAME, dataset)
    _run("jobs.build_journeys", *flags, "--day", first)
    _run("jobs.build_journeys", *flags, "--day", day)
    _run("jobs.build_feature_spec", *flags, "--from", first, "--to", first)
    _run("jobs.build_sequences", *flags, "--from", first, "--to", day)
    return lake


def enlarged(small: Lake, large: Lake, dataset: str, copies: int) -> Lake:
    """The large lake: so many copies of every user's rows. Its first day is audited, as it would be on any day."""
    shutil.copytree(small.table(feature_spec.NAME, dataset), large.table(feature_spec.NAME, dataset))
    days = small.days(exposures.NAME, dataset)
    for table in TABLES:
        for day in days:
            _copy_rows(small, large, table, dataset, day, copies)
    for command in _audits(("--dataset", dataset, "--lake", str(large.root)), days[0]):
        _run(*command)
    return large


def _copy_rows(small: Lake, large: Lake, table: str, dataset: str, day: str, copies: int) -> None:
    partition = small.partition(table, dataset, day)
    found = read_manifest(partition)
    if found is None:
        raise UserError(f"no {table} for {dataset} on {day} in {small.root}")
    with staging_folder(large) as staged:
        with opened(partition) as connection:
            rows = f'SELECT * EXCLUDE (copy) REPLACE ({_COPIED[table]}) FROM "partition", range({copies}) AS c(copy)'
            connection.execute(f"COPY ({rows}) TO '{staged / 'part-00000.parquet'}' (FORMAT parquet)")
        resting = table in (journeys.NAME, sequences.NAME)
        publish(
            large, table, dataset, day, staged, rows=found.rows * copies, code=found.code_version,
            inputs=history_inputs(large, dataset, day) if resting else found.inputs, spec_version=found.spec_version,
            counts={name: count * copies for name, count in found.counts.items()},
        )  # fmt: skip


def audited(lake: Lake, dataset: str, day: str) -> float:
    """Seconds that the day's audits and its drift take together; a line each."""
    total = 0.0
    for command in _audits(("--dataset", dataset, "--lake", str(lake.root)), day):
        start = time.monotonic()
        kib = _run(*command)
        seconds = time.monotonic() - start
        name = command[command.index("--table") + 1] if "--table" in command else "drift"
        print(f"  {name:12} {seconds:6.1f} s {kib / 2**20:6.2f} GiB", flush=True)
        total += seconds
    return total


def _audits(flags: tuple[str, ...], day: str) -> list[tuple[str, ...]]:
    tables = [("jobs.audit_table", *flags, "--table", table, "--from", day, "--to", day) for table in TABLES]
    return [*tables, ("jobs.measure_drift", *flags, "--day", day)]


def _rows(lake: Lake, dataset: str, day: str) -> int:
    manifest = read_manifest(lake.partition(exposures.NAME, dataset, day))
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

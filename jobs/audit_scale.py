"""How long a day's audits take: python -m jobs.audit_scale [--dataset kuairand] [--rows 1000000]

Generates a log of two days of a quarter of so many exposures each and one of two days of so many, and builds their
tables with the jobs themselves, in a folder that is gone afterwards. The second day's tables are then audited and its
drift is measured, each by its entry point in a process of its own on two cores; seconds and memory are printed. Fails
where the larger day takes more than 60 s, or more than so many times longer as it has more rows.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from schemas.errors import UserError, exit_with_one_line
from schemas.paths import Lake
from schemas.publishing import read_manifest

LAYOUTS = ("kuairand", "criteo")  # that the generator can write
TABLES = ("exposures", "quarantine", "journeys", "sequences")
_CORES, _MOST_S = 2, 60
_ROWS_PER_USER = 20
_STEP = 4  # the smaller day has so many times fewer rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="kuairand", choices=LAYOUTS)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])  # the processes below inherit it
    spent, sizes = [], []
    for rows in (args.rows // _STEP, args.rows):
        with tempfile.TemporaryDirectory() as folder:
            lake, day = built(Path(folder), args.dataset, rows)
            sizes.append(_rows(lake, args.dataset, day))
            spent.append(audited(lake, args.dataset, day))
        print(f"{sizes[-1]:,} exposures: audits and drift in {spent[-1]:.1f} s", flush=True)
    growth, larger = spent[1] / spent[0], sizes[1] / sizes[0]
    print(f"{larger:.2f} times the exposures take {growth:.2f} times as long")
    if spent[1] > _MOST_S or growth > larger:
        raise UserError(f"more than {_MOST_S} s, or growing faster than the day: slower, or the machine is busy")


def built(folder: Path, dataset: str, rows: int) -> tuple[Lake, str]:
    """A lake of two days of about so many exposures, and the second day."""
    raw, lake = folder / "raw", Lake(folder / "lake")
    _run("jobs.generate_log", "--layout", dataset, "--out", str(raw), "--days", "2", "--rows", str(2 * rows),
         "--users", str(2 * rows // _ROWS_PER_USER))  # fmt: skip
    flags = ("--dataset", dataset, "--lake", str(lake.root))
    _run("jobs.build_exposures", *flags, "--raw", str(raw))
    first, day = lake.days("exposures", dataset)
    _run("jobs.build_journeys", *flags, "--day", first)
    _run("jobs.build_journeys", *flags, "--day", day)
    _run("jobs.build_feature_spec", *flags, "--from", first, "--to", first)
    _run("jobs.build_sequences", *flags, "--from", day, "--to", day)
    for command in _audits(flags, first):  # as on any day: the one before has been audited
        _run(*command)
    return lake, day


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
    manifest = read_manifest(lake.partition("exposures", dataset, day))
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

"""Checks that the audits of a day stay within 60 s and grow no faster than the day.

python -m benchmarks.audit_scale [--dataset kuairand] [--rows 1000000]

Builds a lake of small days in a temporary folder, and from it three lakes with a larger last day: of 12,500 exposures,
of a quarter of --rows, and of --rows (see inputs/repeated_day.py). Audits each table of the last day and measures its
drift, each by its entry point in a separate process on two cores, and prints seconds and memory. Nearly all the time of
the smallest day is the start of the four processes; it is subtracted before times are compared.
"""

import argparse
import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands import module
from benchmarks.inputs.repeated_day import LAYOUTS, SMALL_ROWS, build_small_lake, repeat_users
from benchmarks.machine import use_two_cores
from benchmarks.measure import measure
from lakehouse.lake import Lake
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import EXPOSURES, JOURNEYS, QUARANTINE, SEQUENCES, STEPS

_AUDITED_TOGETHER = ((EXPOSURES, QUARANTINE), (JOURNEYS,), (STEPS, SEQUENCES))  # each group by one process
_MAX_S = 60
_STEP = 4  # the ratio of the sizes of the two large days
_NOISE = 1.25  # the effect of a busy machine on a ratio of times; quadratic growth is off by _STEP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default=LAYOUTS[0], choices=LAYOUTS)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    use_two_cores()
    if args.rows <= _STEP * SMALL_ROWS:
        raise UserError(f"--rows {args.rows}: more than {_STEP * SMALL_ROWS:,} are needed to see the time grow")
    seconds, sizes = [], []
    with tempfile.TemporaryDirectory() as folder:
        small = build_small_lake(Path(folder), args.dataset)
        for rows in (SMALL_ROWS, args.rows // _STEP, args.rows):
            lake = Lake(Path(folder) / str(rows))
            repeat_users(small, lake, args.dataset, max(1, round(rows / SMALL_ROWS)))
            day = lake.days(EXPOSURES, args.dataset)[-1]
            sizes.append(lake[EXPOSURES, args.dataset, day].require().rows)
            seconds.append(audit_seconds(lake, args.dataset, day))
            print(f"{sizes[-1]:,} exposures: audits and drift in {seconds[-1]:.1f} s", flush=True)
            shutil.rmtree(lake.root)
    rows_growth, time_growth = growth(sizes), growth(seconds)
    print(f"without the start-up, {rows_growth:.2f} times the exposures take {time_growth:.2f} times as long")
    if seconds[-1] > _MAX_S or time_growth > _NOISE * rows_growth:
        raise UserError(
            f"the audits take more than {_MAX_S} s or grow faster than the day: they are slower, or the machine is busy"
        )


def growth(values: Sequence[float]) -> float:
    """The ratio of the third value to the second, with the first subtracted from both.

    Infinite unless the second is larger than the first.
    """
    first, second, third = values
    return (third - first) / (second - first) if second > first else math.inf


def audit_seconds(lake: Lake, dataset: str, day: str) -> float:
    """The seconds that the audits of the day and its drift take together. Prints one line per process."""
    flags = ("--dataset", dataset, "--lake", str(lake.root))
    commands = {
        " and ".join(tables): module("jobs.audit_table", *flags, "--from", day, "--to", day, "--table", *tables)
        for tables in _AUDITED_TOGETHER
    }
    commands["drift"] = module("jobs.measure_drift", *flags, "--day", day)
    seconds = 0.0
    for name, command in commands.items():
        cost = measure(command, whole_tree=False)
        print(f"  {name:24} {cost.seconds:6.1f} s {cost.peak_bytes / 2**30:6.2f} GiB", flush=True)
        seconds += cost.seconds
    return seconds


if __name__ == "__main__":
    exit_with_one_line(main)

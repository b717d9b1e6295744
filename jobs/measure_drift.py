"""Measure how much days differ from the day before each of them and from the training period.

    python -m jobs.measure_drift --dataset kuairand --lake lake [--day DAY | --from DAY --to DAY]

Reads a day's exposures, and its policies and `prequential` if it has them. Stores the figures as
LAKE/<name>/drift/<day>.json and prints those that exceed their limits. Default: every published day, oldest
first, because the limits of a day are learned from the days before it. Exit status 1 if a critical figure exceeds its
limit, 3 if no day has a row.
"""

import sys

from jobs.drift.measurement import measure_drift
from jobs.drift.results import Drift, store_drift, stored_drifts
from lakehouse.arguments import add_day_range, add_lake, dataset_of, dataset_parser, day_range_of, lake_of
from lakehouse.lake import Lake
from lakehouse.published_days import published_days
from schemas.contract import Severity
from schemas.dataset import Dataset
from schemas.days import checked_day
from schemas.errors import NothingToDo, UserError, exit_with_one_line
from schemas.tables import EXPOSURES


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    add_day_range(parser)
    parser.add_argument("--day", help="a single day, YYYY-MM-DD")
    args = parser.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    first, last = day_range_of(args)
    if args.day and (first or last):
        raise UserError("--day is a single day, --from and --to are a range: use one or the other")
    days = [checked_day(args.day)] if args.day else published_days(lake, EXPOSURES, dataset, first, last)
    measured = measure_days(lake, dataset, days)
    for drift in measured:
        name = f"drift/{dataset.name}/{drift.ds}"
        for figure in drift.exceeded:
            print(f"{figure.severity} {name}: {figure.name}: {figure.sentence}")
        print(f"{name}: {len(drift.figures)} figures, {len(drift.exceeded)} exceed their limits")
    if any(figure.severity == Severity.CRITICAL.value for drift in measured for figure in drift.exceeded):
        sys.exit(1)


def measure_days(lake: Lake, dataset: Dataset, days: list[str]) -> list[Drift]:
    """Measure and store the drift of each day, oldest first. A day without rows has no drift.

    Raises NothingToDo if no day has rows.
    """
    stored = {drift.ds: drift for drift in stored_drifts(lake, dataset)}
    measured = []
    for day in days:
        try:
            drift = measure_drift(lake, dataset, day, list(stored.values()))
        except NothingToDo as reason:
            print(f"info drift/{dataset.name}/{day}: {reason}")
            continue
        store_drift(lake, drift)
        stored[day] = drift
        measured.append(drift)
    if not measured:
        raise NothingToDo(f"no exposure of {dataset.name} in the days {days[0]} to {days[-1]}")
    return measured


if __name__ == "__main__":
    exit_with_one_line(main)

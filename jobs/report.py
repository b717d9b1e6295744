"""Write the daily report: one page per day with a verdict on the day, and an index over the days.

    python -m jobs.report --dataset kuairand --lake lake [--day DAY | --from DAY --to DAY] [--if-there]

Writes LAKE/<dataset>/reports/<day>.html and index.html, which open in any browser without a network, and
prints the path of the last page. Default: the latest day. The pages show what the lake contains now. The time for a day
does not grow with the number of days: the index is made from small summaries, which are stored with the pages.
"""

import argparse

from jobs.reports.day_page import publish_report
from lakehouse.arguments import add_day_range, add_lake, dataset_of, dataset_parser, day_range_of, lake_of
from lakehouse.lake import Lake
from schemas.dataset import Dataset
from schemas.days import checked_day
from schemas.errors import NothingToDo, UserError, exit_with_one_line
from schemas.tables.registry import TABLES


def main() -> None:
    args = _parser().parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    first, last = day_range_of(args)
    if args.day and (first or last):
        raise UserError("--day is a single day, --from and --to are a range: use one or the other")
    day = args.day and checked_day(args.day)
    days = days_to_report(lake, dataset, day or first, day or last, missing=NothingToDo if args.if_there else UserError)
    for day in days:
        page = publish_report(lake, dataset, day)
    print(page)


def days_to_report(
    lake: Lake, dataset: Dataset, first: str | None, last: str | None, *, missing: type[Exception] = UserError
) -> list[str]:
    """The days of the range that the lake has in any table, oldest first; without a range the latest one.

    Raises UserError if the lake does not exist, and `missing` if the lake has no such day.
    """
    if not lake.root.is_dir():
        raise UserError(f"no such folder: {lake.root} (LAKE must name the output folder of an earlier run)")
    available = sorted({day for table in TABLES for day in lake.days(table, dataset)})
    if not available:
        raise missing(f"{dataset.name} has no tables in {lake.root}: run a day first (make run)")
    if not first and not last:
        return available[-1:]
    days = [day for day in available if (first or day) <= day <= (last or day)]
    if not days:
        span = f"on {first}" if first == last else f"from {first or 'the beginning'} to {last or 'the end'}"
        raise missing(
            f"{dataset.name} has no tables {span} in {lake.root}: there are {available[0]} to {available[-1]}"
        )
    return days


def _parser() -> argparse.ArgumentParser:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    add_day_range(parser)
    parser.add_argument("--day", help="the day, YYYY-MM-DD; default: the latest day in the lake")
    parser.add_argument(
        "--if-there", action="store_true", help="exit with status 3 (nothing to do) if the day is not in the lake"
    )
    return parser


if __name__ == "__main__":
    exit_with_one_line(main)

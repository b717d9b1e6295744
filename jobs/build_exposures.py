"""Raw log files to the tables `exposures` and `quarantine`, for a range of days.

    spark-submit jobs/build_exposures.py --dataset kuairand --raw RAW --lake lake
        [--from DAY] [--to DAY] [--this-code] | [--up-to DAY] [--accept-few-rows]

--up-to DAY builds that day and all earlier days that are missing or stale, since the day's journeys are built from
them; this is how late rows reach the lake. A day whose raw rows have not changed since it was built is not built again.
A last day with few of its usual rows has not come yet, so its rows wait (jobs.raw.log_calendar); it is built if a range
names it, or with --accept-few-rows. Rows of a file that has been removed stay as they were published. Quarantined rows
whose day cannot be read, or is outside the days of the usable rows, go to the quarantine partition `undated`.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jobs.raw.accounts import log_accounts, waiting_line
from jobs.raw.build_plan import BuildPlan, DayRequest
from jobs.raw.files import find_raw_files
from jobs.raw.index import RawIndex, file_stamp, split_by_change, store_index, stored_index, with_files_added
from jobs.raw.log import RawLog, usable_rows_by_day
from jobs.raw.publish import publish_log
from jobs.raw.rows import require_usable
from jobs.spark.context import OpenContext, spark_context, starting_workers
from jobs.spark.files_per_day import files_per_day
from lakehouse.arguments import (
    add_accept_few_rows,
    add_day_range,
    add_lake,
    add_raw,
    add_this_code,
    dataset_of,
    dataset_parser,
    day_range_of,
    lake_of,
    required_code_of,
)
from lakehouse.lake import Lake
from schemas.dataset import Dataset
from schemas.days import UNDATED, checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import EXPOSURES, QUARANTINE

RAW_INDEX = "raw_index"


def main() -> None:
    args = raw_log_parser(__doc__).parse_args()
    update(lake_of(args), dataset_of(args), args.raw, request_of(args), spark_context)


def raw_log_parser(doc: str | None) -> ArgumentParser:
    """A parser with all flags of this job; request_of reads those of the days."""
    parser = dataset_parser(doc)
    add_raw(parser)
    add_lake(parser)
    add_day_range(parser)
    add_this_code(parser)
    parser.add_argument("--up-to", metavar="DAY", help="that day, and all earlier days that are stale or missing")
    add_accept_few_rows(parser)
    return parser


def request_of(args: Namespace) -> DayRequest:
    first, last = day_range_of(args)
    up_to = checked_day(args.up_to) if args.up_to else None
    if up_to and (first or last):
        raise UserError("--up-to names all days: leave out --from and --to")
    return DayRequest(first, last, up_to, required_code_of(args, "jobs"), args.accept_few_rows)


def update(lake: Lake, dataset: Dataset, raw: Path, request: DayRequest, opened: OpenContext) -> None:
    """Build the requested days that are missing or stale, and print lines about them. raw: the folder of the log."""
    require_usable(dataset)
    files = find_raw_files(dataset, raw)
    print_notes(files[dataset.log.view].notes)
    lake.require_writable()  # before the log is read, which may take hours

    index, changed = split_by_change(dataset, files, stored_index(lake, dataset))
    plan = BuildPlan(lake, dataset, index, request)
    built: list[str] = []
    if changed or plan.days_to_build():
        with opened(f"exposures {dataset.name}") as spark, starting_workers(spark):
            log = RawLog(spark, dataset, files, files_per_day(lake, dataset))
            plan = replace(plan, index=read_changed_files(lake, log))
            if built := plan.days_to_build():
                publish_log(lake, log, plan.index, built)
    report_fresh_days(plan, built)
    report_waiting_rows(lake, dataset)
    if request.up_to:
        report_other_days(plan, request.up_to, [day for day in built if day not in (request.up_to, UNDATED)])


def read_changed_files(lake: Lake, log: RawLog) -> RawIndex:
    """Reads the files that have changed since the raw index was stored, and stores and returns the new index."""
    dataset, files = log.dataset, log.files
    index, changed = split_by_change(dataset, files, stored_index(lake, dataset))
    if changed:
        # Taken before the files are read: a file that changes during the read is read again by the next run.
        stamps = {name: file_stamp(path) for name, path in changed.items()}
        blocks = log.blocks(set(stamps))
        fingerprints = blocks.fingerprints()
        index = with_files_added(index, stamps, fingerprints)
        if index.span is None:
            usable_rows_by_day(fingerprints, blocks.reasons)  # raises the error with the reason
        store_index(lake, dataset, index)
    return index


def print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}")


def report_fresh_days(plan: BuildPlan, built: list[str]) -> None:
    days = plan.days()
    if fresh := len(set(days) - set(built)):
        print(f"exposures {plan.dataset.name} {days[0]}..{days[-1]}: {fresh} of {len(days)} days are fresh")


def report_waiting_rows(lake: Lake, dataset: Dataset) -> None:
    """Prints a line if rows of the log are in no partition of the lake yet."""
    index = stored_index(lake, dataset)
    if index is None:
        return
    published = lake.manifests(dataset, [EXPOSURES, QUARANTINE])
    accounts = log_accounts(index, lambda table, day: published[table].get(day))
    if line := waiting_line(dataset, index, accounts.waiting):
        print(line)


def report_other_days(plan: BuildPlan, day: str, built: list[str]) -> None:
    """Prints a line on the earlier days that were built, and one on the later days that are stale."""
    if built:
        names = ", ".join(built[:5]) + (", ..." if len(built) > 5 else "")
        print(f"note: {len(built)} earlier days were missing or their raw rows have changed: {names}; see make status")
    later_days = [d for d in plan.lake.days(EXPOSURES, plan.dataset) if d > day]
    if stale_days := [d for d in plan.stale_days(later_days, None) if d != UNDATED]:
        print(f"note: the raw rows of {', '.join(stale_days[:5])} have changed since they were built; see make status")


if __name__ == "__main__":
    exit_with_one_line(main)

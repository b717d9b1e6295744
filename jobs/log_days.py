"""Check a folder of raw files and print the first and the last day of its log that have come.

    python -m jobs.log_days --dataset kuairand --raw RAW [--accept-few-rows]

A last day with few of its usual rows has not come yet (jobs.raw.log_calendar); with --accept-few-rows it counts. A note
on standard error names the rows of days that do not count.
"""

import sys

from jobs.raw.files import find_raw_files
from jobs.raw.index import event_views
from jobs.raw.log import NO_ROWS, RawLog, usable_rows_by_day
from jobs.raw.log_calendar import LogCalendar
from jobs.raw.rows import require_usable
from jobs.spark.context import spark_context
from jobs.spark.files_per_day import FILES_PER_DAY
from lakehouse.arguments import add_accept_few_rows, add_raw, dataset_of, dataset_parser
from schemas.errors import exit_with_one_line
from schemas.printable import counted

_MOST_NAMED = 5  # days in one line


def main() -> None:
    arguments = dataset_parser(__doc__)
    add_raw(arguments)
    add_accept_few_rows(arguments)
    args = arguments.parse_args()
    dataset = dataset_of(args)
    require_usable(dataset)
    files = find_raw_files(dataset, args.raw)
    with spark_context(f"days of {dataset.name}") as spark:
        log = RawLog(spark, dataset, files, FILES_PER_DAY)
        names = {name for view in event_views(dataset) for name in files[view].by_name}
        fingerprints = log.blocks(names, NO_ROWS).fingerprints()
        usable = usable_rows_by_day(fingerprints, lambda: log.blocks(names).reasons())
    calendar = LogCalendar(usable, dataset.quality)
    first_day, last_day = calendar.days(few_rows=args.accept_few_rows)
    print(first_day, last_day)
    left_out = {day: rows for day, rows in sorted(calendar.rows.items()) if not first_day <= day <= last_day}
    if left_out:
        rows = counted(sum(left_out.values()), "row")
        print(
            f"note: left out: {rows} of {', '.join([*left_out][:_MOST_NAMED])}: these days "
            "have few rows, or are far from all others; see docs/operations.md",
            file=sys.stderr,
        )


if __name__ == "__main__":
    exit_with_one_line(main)

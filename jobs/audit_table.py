"""Audit a table's published partitions of a range of days; exit status 2 where a critical rule fails.

    python -m jobs.audit_table --dataset kuairand --lake lake --table exposures [--from DAY] [--to DAY] [--new]

Each partition is audited on its own; the results are kept under LAKE/audits, and the data docs follow them. --new
leaves out the partitions whose latest audit is about the very content that lies there, unless it failed critically.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from jobs.data_docs import publish_pages
from jobs.quality.audit_results import FAIL, Audit, store, stored_audit
from lakehouse.arguments import add_day_range, add_lake, dataset_of, dataset_parser, day_range_of, lake_of
from lakehouse.feature_specs import spec_in_file
from lakehouse.files import file_sha256
from lakehouse.lake import Lake
from lakehouse.manifest import MANIFEST
from lakehouse.published_days import published_days
from schemas.days import UNDATED, days_between
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import FEATURE_SPEC, QUARANTINE
from schemas.tables.registry import TABLES
from schemas.tables.sequences import DEFAULT_STEPS

_NOT_DAILY = (QUARANTINE, FEATURE_SPEC)  # a day without such a partition is nothing to mention
_NAMED_DAYS = 5


def main() -> None:
    args = _arguments().parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    for table in args.table:
        if table not in TABLES:
            raise UserError(f"unknown table '{table}': choose one of {', '.join(TABLES)}")
    spec = spec_in_file(args.spec) if args.spec else None
    asked: list[tuple[str, str]] = []
    for table in args.table:
        days, missing = days_to_audit(lake, table, dataset.name, *day_range_of(args))
        asked += ((table, day) for day in days)
        if missing:
            more = f" and {len(missing) - _NAMED_DAYS} more days" if len(missing) > _NAMED_DAYS else ""
            print(f"info {table}/{dataset.name}: no partition for {', '.join(missing[:_NAMED_DAYS])}{more}")
    if args.new:
        asked = [(table, day) for table, day in asked if not has_passed(lake, table, dataset.name, day)]
    if not asked:
        print(f"info {', '.join(args.table)}/{dataset.name}: nothing to audit")
        return

    # Great Expectations takes seconds to load: only now that there is something to audit, and once.
    from jobs.quality.audits import audit_partition

    audits = []
    for table, day in asked:
        audit = audit_partition(lake, table, dataset, day, spec=spec, steps=args.steps)
        store(lake, audit)
        audits.append(audit)
        for line in report(audit):
            print(line)
    print(f"data docs: {publish_pages(lake, dataset.name, audits)}", flush=True)  # before the line on stderr
    failed = [audit for audit in audits if audit.verdict == FAIL]
    if failed:
        more = f"; {len(failed) - 1} more failed" if len(failed) > 1 else ""
        raise UserError(f"{failed[0].where} failed its audit: {failed[0].headline}{more}")


def days_to_audit(
    lake: Lake, table: str, dataset: str, first: str | None, last: str | None
) -> tuple[list[str], list[str]]:
    """The published days of the range, oldest first, and the days without a partition.

    A UserError where there is none at all, but for the quarantine, which may well be empty. Its undated rows
    belong to every range.
    """
    if not lake.root.is_dir():
        raise UserError(f"no such folder: {lake.root} (LAKE must name the output folder of an earlier run)")
    if table == QUARANTINE:
        days = [day for day in lake.days(table, dataset) if (first or day) <= day <= (last or day)]
        undated = lake[table, dataset, UNDATED].path.is_dir()
        return ([*days, UNDATED] if undated else days), []
    days = published_days(lake, table, dataset, first, last)
    asked_days = days_between(first or days[0], last or days[-1])
    return days, [] if table in _NOT_DAILY else [day for day in asked_days if day not in set(days)]


def has_passed(lake: Lake, table: str, dataset: str, day: str) -> bool:
    """Whether the very partition that lies there, manifest included, was audited without a critical failure."""
    audit, manifest = stored_audit(lake, table, dataset, day), lake[table, dataset, day].path / MANIFEST
    return (
        audit is not None and audit.verdict != FAIL and manifest.is_file() and audit.manifest == file_sha256(manifest)
    )


def report(audit: Audit) -> Iterator[str]:
    """One line a failed rule and note, or one line that all is well."""
    for outcome in audit.failed:
        yield f"{outcome.severity} {audit.where}: {outcome.name}: {audit.finding(outcome)} — {outcome.why}"
    for note in audit.notes:
        yield f"info {audit.where}: {note}"
    if not audit.failed:
        yield f"pass {audit.where}: {audit.rows:,} rows, {len(audit.outcomes)} rules"


def _arguments() -> argparse.ArgumentParser:
    result = dataset_parser(__doc__)
    add_lake(result)
    add_day_range(result)
    result.add_argument("--new", action="store_true", help="only what was not audited yet, as it lies there")
    result.add_argument("--table", required=True, nargs="+", help=f"of {', '.join(TABLES)}")
    result.add_argument(
        "--steps", type=int, default=DEFAULT_STEPS, help="window length that `sequences` were built with"
    )
    result.add_argument(
        "--spec", type=Path, help="a feature_spec.json that `sequences` were built with; default: the published one"
    )
    return result


if __name__ == "__main__":
    exit_with_one_line(main)

"""Audit the published partitions of one or more tables; exit status 2 if a critical rule fails.

    python -m jobs.audit_table --dataset kuairand --lake lake --table exposures [--from DAY] [--to DAY] [--new]
        [--only-published]

Every partition is audited separately. Results are stored under LAKE/<dataset>/audits, the data docs are updated, and
results that have passed are written to LAKE/<dataset>/published for consumers. --new skips a partition if its latest
audit is about its current content and did not fail critically. A table without any partition in the days is an error,
unless it is optional or --only-published is given.
"""

import argparse
from collections.abc import Iterator, Sequence

from jobs.quality.audit_results import FAIL, Audit, manifest_digest, store_audit, stored_audit
from jobs.quality.consumer_files import update_consumer_file
from jobs.reports.data_docs import publish_pages
from lakehouse.arguments import add_day_range, add_lake, dataset_of, dataset_parser, day_range_of, lake_of
from lakehouse.feature_specs import spec_in_file
from lakehouse.lake import Lake, Partition
from lakehouse.published_days import published_days
from lakehouse.storage.store_path import located
from schemas.dataset import Dataset
from schemas.days import UNDATED, days_between
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import QUARANTINE
from schemas.tables.feature_spec import FeatureSpec
from schemas.tables.registry import TABLES, TABLES_FOR_CONSUMERS, registered

_DAYS_NAMED = 5


def main() -> None:
    args = _parser().parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    for table in args.table:
        registered(table)
    spec = spec_in_file(args.spec) if args.spec else None
    first, last = day_range_of(args)
    audit_tables(
        lake, dataset, args.table, first, last, spec=spec, only_new=args.new, only_published=args.only_published
    )


def audit_tables(
    lake: Lake, dataset: Dataset, tables: Sequence[str], first: str | None, last: str | None, *,
    spec: FeatureSpec | None = None, only_new: bool = False, only_published: bool = False,
) -> None:  # fmt: skip
    """Audit the partitions of these tables and days, and print the results. Raises UserError after a critical failure.

    only_new, only_published: the flags --new and --only-published.
    """
    partitions = _partitions(lake, tables, dataset, first, last, only_published=only_published)
    audited = [partition for partition in partitions if not (only_new and has_passed(partition))]
    if audited:
        audits = _audit(lake, dataset, audited, spec)
    else:
        audits = []
        print(f"info {', '.join(tables)}/{dataset.name}: no partition to audit")
    # Partitions that passed earlier are included, because that audit may have been killed before this step.
    for partition in partitions:
        if partition.table in TABLES_FOR_CONSUMERS and update_consumer_file(partition):
            print(f"for consumers: {partition.consumer_file}", flush=True)
    failed = [audit for audit in audits if audit.verdict == FAIL]
    if failed:
        failures = f"; {len(failed) - 1} more failed" if len(failed) > 1 else ""
        raise UserError(f"{failed[0].partition_name} failed its audit: {failed[0].headline}{failures}")


def _audit(lake: Lake, dataset: Dataset, partitions: Sequence[Partition], spec: FeatureSpec | None) -> list[Audit]:
    """Audit the partitions, store and print the results, and write their pages."""
    # Great Expectations takes seconds to import: only if there is something to audit.
    from jobs.quality.audits import audit_partition

    audits = []
    for partition in partitions:
        audit = audit_partition(lake, partition.table, dataset, partition.day, spec=spec)
        store_audit(lake, audit)
        audits.append(audit)
        for line in result_lines(audit):
            print(line)
    print(f"data docs: {publish_pages(lake, dataset, audits)}", flush=True)  # before an error on stderr
    return audits


def days_to_audit(
    lake: Lake, table: str, dataset: Dataset, first: str | None, last: str | None, *, only_published: bool = False
) -> tuple[list[str], list[str]]:
    """The published days of the range, oldest first, and the days without a partition.

    Undated rows of the quarantine belong to every range. Raises UserError if no day is published; only the quarantine
    and optional tables may be empty, and with only_published every table.
    """
    if not lake.root.is_dir():
        raise UserError(f"no such folder: {lake.root} (LAKE must name the output folder of an earlier run)")
    if table == QUARANTINE:
        days = [day for day in lake.days(table, dataset) if (first or day) <= day <= (last or day)]
        undated = lake[table, dataset, UNDATED].is_published
        return ([*days, UNDATED] if undated else days), []
    if TABLES[table].optional or only_published:
        return [day for day in lake.days(table, dataset) if (first or day) <= day <= (last or day)], []
    days = published_days(lake, table, dataset, first, last)
    if not TABLES[table].daily:
        return days, []
    published = set(days)
    return days, [day for day in days_between(first or days[0], last or days[-1]) if day not in published]


def has_passed(partition: Partition) -> bool:
    """Whether the partition with its current manifest was audited and did not fail critically."""
    audit, manifest = stored_audit(partition), partition.manifest
    if audit is None or audit.verdict == FAIL or manifest is None:
        return False
    return audit.manifest == manifest_digest(manifest)


def result_lines(audit: Audit) -> Iterator[str]:
    """One line for each failed rule and note; one line if every rule holds."""
    name = audit.partition_name
    for outcome in audit.failed:
        yield f"{outcome.severity} {name}: {outcome.name}: {audit.describe(outcome)} — {outcome.why}"
    for note in audit.notes:
        yield f"info {name}: {note}"
    if not audit.failed:
        yield f"pass {name}: {audit.rows:,} rows, {len(audit.outcomes)} rules"


def _partitions(
    lake: Lake, tables: Sequence[str], dataset: Dataset, first: str | None, last: str | None, *, only_published: bool
) -> list[Partition]:
    """The partitions to audit, table by table. Prints the days that lack one."""
    partitions: list[Partition] = []
    for table in tables:
        days, missing = days_to_audit(lake, table, dataset, first, last, only_published=only_published)
        partitions += _with_earlier([lake[table, dataset, day] for day in days])
        if missing:
            remaining = f" and {len(missing) - _DAYS_NAMED} more days" if len(missing) > _DAYS_NAMED else ""
            print(f"info {table}/{dataset.name}: no partition for {', '.join(missing[:_DAYS_NAMED])}{remaining}")
    return partitions


def _with_earlier(partitions: Sequence[Partition]) -> list[Partition]:
    """The partitions, and those earlier ones that are read with them and have not passed an audit, oldest first.

    A day of `journeys` may have changed rows alone. It is read together with the days since the last snapshot.
    """
    by_day = {p.day: p for p in partitions}
    earlier = {p.day: p for partition in partitions for p in partition.read_together() if p.day not in by_day}
    unaudited = {day: p for day, p in earlier.items() if p.is_published and not has_passed(p)}
    return [p for _, p in sorted((by_day | unaudited).items())]


def _parser() -> argparse.ArgumentParser:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    add_day_range(parser)
    parser.add_argument("--new", action="store_true", help="only partitions whose current content was not audited yet")
    parser.add_argument("--only-published", action="store_true", help="leave out tables without a partition")
    parser.add_argument("--table", required=True, nargs="+", help=f"one or more of {', '.join(TABLES)}")
    parser.add_argument(
        "--spec", type=located, help="the feature_spec.json of the model that reads `sequences`; default: the newest"
    )
    return parser


if __name__ == "__main__":
    exit_with_one_line(main)

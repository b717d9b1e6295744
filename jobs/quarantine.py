"""Show why raw rows are in quarantine, and export them for repair.

    python -m jobs.quarantine --dataset kuairand --lake lake [--day DAY] [--out DIR]

Prints counts by day, reason and file of the raw log, with examples. --out DIR writes the quarantined rows, header
included, as files in the log's own layout. Repair them there, then move them to the folder of the raw log, next to the
file that they came from; the next run reads them like any other file. The log itself never changes: the original rows
stay in quarantine, the repaired rows count as new rows in, and rows that were moved to the log are not exported again.
No file gets the name of an earlier one. docs/quality.md has the details.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.raw.index import stored_index
from jobs.raw.repair_files import file_content, plan_repair_files
from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of
from lakehouse.duckdb_view import open_view
from lakehouse.files import write_whole
from lakehouse.lake import Lake
from schemas.dataset import Dataset
from schemas.days import UNDATED, checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import QUARANTINE

_EXAMPLES = 3
_EXAMPLE_LENGTH = 160  # characters


@dataclass(frozen=True, slots=True)
class QuarantinedGroup:
    """Rows of one day in quarantine for one reason, from one file of the raw log."""

    day: str
    source_file: str
    reason: str
    rows: int
    examples: tuple[str, ...]


def main() -> None:
    arguments = dataset_parser(__doc__)
    add_lake(arguments)
    arguments.add_argument("--day", help=f"YYYY-MM-DD, or {UNDATED} for rows without a day; default: all of them")
    arguments.add_argument("--out", type=Path, help="folder for the quarantined rows, as files of the raw log")
    args = arguments.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    days = quarantined_days(lake, dataset, args.day)
    groups = [group for day in days for group in quarantined_groups(lake, dataset, day)]
    print("\n".join(as_lines(groups)) if groups else f"quarantine of {dataset.name}: no rows")
    if args.out and groups:
        files = export(lake, dataset, days, args.out)
        for path, rows in files:
            print(f"{path}: {rows:,} rows to repair")
        if not files:
            print("no rows to export: the log already has the files to which they were exported")


def quarantined_days(lake: Lake, dataset: Dataset, day: str | None) -> list[str]:
    """This day, or all published days followed by UNDATED; a UserError if there is no quarantine for them."""
    undated = [UNDATED] if lake[QUARANTINE, dataset, UNDATED].path.is_dir() else []
    published = [*lake.days(QUARANTINE, dataset), *undated]
    if day is not None and day != UNDATED:
        checked_day(day)
    days = [d for d in published if day in (None, d)]
    if not days:
        days_text = f"on {day} " if day else ""
        raise UserError(f"no quarantine for {dataset.name} {days_text}in {lake.root}: run the day first")
    return days


def quarantined_groups(lake: Lake, dataset: Dataset, day: str) -> list[QuarantinedGroup]:
    """The groups of a day, largest first."""
    partition = lake[QUARANTINE, dataset, day]
    if not partition.files():
        return []
    with open_view(partition) as connection:
        groups = connection.execute(
            f"""SELECT source_file, reason, count(*) AS n, list(raw ORDER BY raw)[:{_EXAMPLES}] FROM "partition"
                GROUP BY source_file, reason ORDER BY n DESC, source_file, reason"""
        ).fetchall()
    return [QuarantinedGroup(day, file, reason, int(n), tuple(examples)) for file, reason, n, examples in groups]


def as_lines(groups: list[QuarantinedGroup]) -> Iterator[str]:
    for group in groups:
        yield f"{group.day}  {group.rows:,} rows in {group.source_file}: {group.reason}"
        for example in group.examples:
            yield f"    {example if len(example) <= _EXAMPLE_LENGTH else f'{example[: _EXAMPLE_LENGTH - 3]}...'}"
    yield f"{sum(group.rows for group in groups):,} rows in quarantine"


def export(lake: Lake, dataset: Dataset, days: list[str], folder: Path) -> list[tuple[Path, int]]:
    """Write a file for each day and each file of the raw log; returns the paths with their numbers of rows.

    Which rows are left out, and when this is a UserError and nothing is written: plan_repair_files. The lake stores a
    copy of each file.
    """
    rows: dict[tuple[str, str], list[str]] = {}
    for day in days:
        with open_view(lake[QUARANTINE, dataset, day]) as connection:
            texts = connection.execute('SELECT source_file, raw FROM "partition" ORDER BY source_file, raw').fetchall()
        for source_file, text in texts:
            rows.setdefault((source_file, day), []).append(text)
    index = stored_index(lake, dataset)
    log_files = {*index.files, *index.removed} if index else set()
    exported = lake.exported_quarantine(dataset)
    files = plan_repair_files(rows, dataset.log, log_files, exported, folder)
    for name, texts_of_file in files.items():
        # The lake's copy is written first: if the second file is missing, the rows are exported again.
        for path in (exported / name, folder / name):
            write_whole(path, file_content(texts_of_file, dataset.log))
    return [(folder / name, len(texts_of_file)) for name, texts_of_file in files.items()]


if __name__ == "__main__":
    exit_with_one_line(main)

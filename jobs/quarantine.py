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

import duckdb

from jobs.raw.index import stored_index
from jobs.raw.repair_files import RawRows, plan_repair_files
from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of
from lakehouse.duckdb_view import open_view
from lakehouse.files import write_whole
from lakehouse.lake import Lake
from schemas.dataset import Dataset, RawFile
from schemas.days import UNDATED, checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.printable import counted, printable
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
    examples: tuple[bytes, ...]


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
            print(f"{printable(str(path))}: {counted(rows, 'row')} to repair")
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
        raw, _ = _raw_and_header_sql(connection)
        groups = connection.execute(
            f"""SELECT source_file, reason, count(*) AS n, list({raw} ORDER BY {raw})[:{_EXAMPLES}] FROM "partition"
                GROUP BY source_file, reason ORDER BY n DESC, source_file, reason"""
        ).fetchall()
    return [QuarantinedGroup(day, file, reason, int(n), tuple(examples)) for file, reason, n, examples in groups]


def as_lines(groups: list[QuarantinedGroup]) -> Iterator[str]:
    for group in groups:
        yield f"{group.day}  {counted(group.rows, 'row')} in {printable(group.source_file)}: {printable(group.reason)}"
        for example in group.examples:
            yield f"    {printable(example, _EXAMPLE_LENGTH)}"
    yield f"{counted(sum(group.rows for group in groups), 'row')} in quarantine"


def export(lake: Lake, dataset: Dataset, days: list[str], folder: Path) -> list[tuple[Path, int]]:
    """Write a file for each day and each raw file; returns the paths with their numbers of rows.

    Which rows are left out, and when this is a UserError and nothing is written: plan_repair_files. The lake stores a
    copy of each file.
    """
    rows: dict[tuple[str, str], RawRows] = {}
    layouts = (dataset.log, *dataset.outcome_files)
    default_header = default_header_of(dataset.log)
    for day in days:
        with open_view(lake[QUARANTINE, dataset, day]) as connection:
            raw, header = _raw_and_header_sql(connection)
            groups = connection.execute(
                f"""SELECT source_file, {header or "NULL"} AS header, list({raw} ORDER BY {raw}) FROM "partition"
                    GROUP BY ALL ORDER BY ALL"""
            ).fetchall()
        for source_file, header_of_file, raw_rows in groups:
            earlier = rows.get((source_file, day), RawRows(b"", []))
            own_header = (header_of_file or b"") if header else default_header
            rows[source_file, day] = RawRows(own_header or earlier.header, [*earlier.rows, *raw_rows])
    index = stored_index(lake, dataset)
    log_files = {*index.files, *index.removed} if index else set()
    exported = lake.exported_quarantine(dataset)
    files = plan_repair_files(rows, layouts, log_files, exported, folder)
    for name, rows_of_file in files.items():
        # The lake's copy is written first: if the second file is missing, the rows are exported again.
        for path in (exported / name, folder / name):
            write_whole(path, rows_of_file.content)
    return [(folder / name, len(rows_of_file.rows)) for name, rows_of_file in files.items()]


def default_header_of(layout: RawFile) -> bytes:
    """The header of rows that were quarantined before headers were stored."""
    return (layout.separator.join(column.name for column in layout.columns) + "\n").encode()


def _raw_and_header_sql(connection: duckdb.DuckDBPyConnection) -> tuple[str, str]:
    """The DuckDB SQL for the bytes of a row and for its header.

    Partitions of earlier versions have the text of the row, and no header: "".
    """
    types = {name: dtype for name, dtype, *_ in connection.execute('DESCRIBE "partition"').fetchall()}
    return ("raw" if types["raw"] == "BLOB" else "encode(raw)"), ("header" if "header" in types else "")


if __name__ == "__main__":
    exit_with_one_line(main)

"""Show why raw rows were refused, and hand them out to be repaired.

    python -m jobs.quarantine --dataset kuairand --lake lake [--day DAY] [--out DIR]

Counts by day, reason and file of the raw log, with examples. --out DIR writes the refused rows, header included, as
files of the log's own layout: repair them there, then move them to the folder of the raw log, beside the file that
they came from. The next run reads them like any other file. The log itself is never changed, so what was refused
stays in quarantine as it was delivered; the repaired rows are new rows in, and are not handed out again. No file has
the name of an earlier one. docs/quality.md has the whole story.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import count
from pathlib import Path

from jobs.raw.index import stored_index
from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of
from lakehouse.duckdb_view import open_view
from lakehouse.files import write_whole
from lakehouse.lake import Lake
from schemas.dataset import Dataset, RawFile
from schemas.days import UNDATED, checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import QUARANTINE

_EXAMPLES = 3
_SHOWN = 160  # characters of an example
_SUFFIXES = (".gz", ".tsv", ".csv", ".txt")


@dataclass(frozen=True, slots=True)
class Refused:
    """Rows of one day that were refused for one reason, in one file of the raw log."""

    day: str
    source_file: str
    reason: str
    rows: int
    examples: tuple[str, ...]


def main() -> None:
    arguments = dataset_parser(__doc__)
    add_lake(arguments)
    arguments.add_argument("--day", help=f"YYYY-MM-DD, or {UNDATED}; default: all days, and the rows of none")
    arguments.add_argument("--out", type=Path, help="folder to write the refused rows to, as files of the raw log")
    args = arguments.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    days = quarantined_days(lake, dataset.name, args.day)
    groups = [group for day in days for group in refused(lake, dataset.name, day)]
    print("\n".join(as_lines(groups)) if groups else f"quarantine/{dataset.name}: no row was refused")
    if args.out and groups:
        files = hand_out(lake, dataset, days, args.out)
        for path, rows in files:
            print(f"{path}: {rows:,} rows to repair")
        if not files:
            print("nothing to hand out: each of these rows was, and the log has the files that they were handed out in")


def quarantined_days(lake: Lake, dataset: str, day: str | None) -> list[str]:
    """The asked day, or all that are published, the undated rows last; a UserError where there is none."""
    undated = [UNDATED] if lake[QUARANTINE, dataset, UNDATED].path.is_dir() else []
    published = [*lake.days(QUARANTINE, dataset), *undated]
    if day is not None and day != UNDATED:
        checked_day(day)
    days = [d for d in published if day in (None, d)]
    if not days:
        raise UserError(f"no quarantine for {dataset} {f'on {day} ' if day else ''}in {lake.root}: run the day first")
    return days


def refused(lake: Lake, dataset: str, day: str) -> list[Refused]:
    """The groups of a day, largest first."""
    partition = lake[QUARANTINE, dataset, day]
    if not partition.files():
        return []
    with open_view(partition) as connection:
        rows = connection.execute(
            f"""SELECT source_file, reason, count(*) AS n, list(raw ORDER BY raw)[:{_EXAMPLES}] FROM "partition"
                GROUP BY source_file, reason ORDER BY n DESC, source_file, reason"""
        ).fetchall()
    return [Refused(day, file, reason, int(n), tuple(examples)) for file, reason, n, examples in rows]


def as_lines(groups: list[Refused]) -> Iterator[str]:
    for group in groups:
        yield f"{group.day}  {group.rows:,} rows in {group.source_file}: {group.reason}"
        for example in group.examples:
            yield f"    {example if len(example) <= _SHOWN else f'{example[: _SHOWN - 3]}...'}"
    yield f"{sum(group.rows for group in groups):,} rows refused"


def hand_out(lake: Lake, dataset: Dataset, days: list[str], folder: Path) -> list[tuple[Path, int]]:
    """Write each day's refused rows, a file for each file of the raw log; the paths and their rows.

    Left out are the rows of earlier files that the log has by now: those are repaired, or given up. The lake keeps what
    was handed out, as it was. Raises UserError, and writes nothing, where one of the files, or an earlier one for the
    same rows, is there already: somebody may have repaired it.
    """
    refused_rows: dict[tuple[str, str], list[str]] = {}
    for day in days:
        with open_view(lake[QUARANTINE, dataset, day]) as connection:
            rows = connection.execute('SELECT source_file, raw FROM "partition" ORDER BY source_file, raw').fetchall()
        for source_file, raw in rows:
            refused_rows.setdefault((source_file, day), []).append(raw)
    index = stored_index(lake, dataset.name)
    in_log = {*index.files, *index.gone} if index else set()
    kept = lake.exported_quarantine(dataset)
    planned: dict[str, list[str]] = {}
    for (source_file, day), lines in refused_rows.items():
        earlier, name = file_names(source_file, day, dataset.log, in_log, kept)
        replayed = {line for file in earlier if file in in_log for line in _rows_of(kept / file)}
        for path in (folder / file for file in (*earlier, name)):
            if path.exists():
                raise UserError(f"{path} is there already: move it to the raw log if it is repaired, or delete it")
        if left := [line for line in lines if line not in replayed]:
            planned.setdefault(name, []).extend(left)
    header = dataset.log.separator.join(column.name for column in dataset.log.columns)
    for name, lines in planned.items():
        text = "\n".join([header, *lines]) + "\n"
        # The lake's copy first: where the other is missing, the rows are handed out again.
        for path in (kept / name, folder / name):
            write_whole(path, text)
    return [(folder / name, len(lines)) for name, lines in planned.items()]


def file_names(
    source_file: str, day: str, layout: RawFile, in_log: Collection[str], kept: Path
) -> tuple[list[str], str]:
    """The names that these rows' earlier files have, and one for the next, which neither the log nor `kept` knows."""
    earlier: list[str] = []
    for number in count(1):
        name = repair_name(source_file, day, layout, number)
        if name not in in_log and not (kept / name).exists():
            return earlier, name
        earlier.append(name)
    raise AssertionError("unreachable: some number is free")


def _rows_of(file: Path) -> list[str]:
    """The lines below the header; none where the lake did not keep the file."""
    return file.read_text(encoding="utf-8").split("\n")[1:-1] if file.is_file() else []


def repair_name(source_file: str, day: str, layout: RawFile, number: int = 1) -> str:
    """A name that the log's patterns find, and that says where the rows are from: <file>_repaired_<day>.<ending>.

    number: of the file, where it is not the first one for these rows; it stands behind the day.
    """
    stem, ending = source_file, ""
    while any(stem.endswith(suffix) for suffix in _SUFFIXES):
        stem, _, last = stem.rpartition(".")
        ending = f".{last}{ending}" if last != "gz" else ending
    own = f"{stem}_repaired_{day}" + (f"_{number}" if number > 1 else "")
    filled = (pattern.replace("*", f"_{own}", 1) for pattern in layout.patterns if "*" in pattern)
    for name in (f"{own}{ending}", *filled):
        if any(fnmatch(name, pattern) for pattern in layout.patterns):
            return name
    raise UserError(f"no file beside {source_file} would be read: give the log's RawFile a pattern with a *")


if __name__ == "__main__":
    exit_with_one_line(main)

"""Files for the repair of quarantined rows: which rows go into which file.

The raw log is never changed. A repaired file is moved to the log's folder under a name that the log's patterns match,
and is read like any other file.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path

from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.read import read_file
from jobs.raw.reader.source_files import plain_name
from jobs.raw.reader.typed_rows import RAW
from schemas.dataset import PARQUET, RawFile
from schemas.errors import UserError
from schemas.printable import printable

_ENDINGS = (".tsv", ".csv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True, slots=True)
class RawRows:
    """Rows of a raw file, unchanged: its header with its line end, b"" without one, and the bytes of each row."""

    header: bytes
    rows: Sequence[bytes]

    @property
    def content(self) -> bytes:
        """The content of a file with these rows."""
        return self.header + b"".join(row + b"\n" for row in self.rows)


def plan_repair_files(
    rows: Mapping[tuple[str, str], RawRows],
    layouts: Sequence[RawFile],
    log_files: Collection[str],
    exported: Path,
    folder: Path,
) -> dict[str, RawRows]:
    """The files to write to `folder`, each with its rows.

    rows: by source file and day. layouts: of the log and of the files of outcomes. log_files: the names of all files
    that the log has or had. exported: the folder with copies of all files that were exported earlier. Rows of an
    earlier file that is in the log now are left out: they were repaired or given up.

    Raises UserError if `folder` has the new file, or an earlier file with the same rows, which may be under repair.
    """
    files: dict[str, RawRows] = {}
    for (source_file, day), quarantined in rows.items():
        layout = layout_of(source_file, layouts)
        earlier_names, name = file_names(source_file, day, layout, log_files, exported)
        for path in (folder / file for file in (*earlier_names, name)):
            if path.exists():
                raise UserError(
                    f"{printable(str(path))} exists already: move it to the raw log if it is repaired, or delete it"
                )
        replayed = {row for file in earlier_names if file in log_files for row in _rows_in(exported / file, layout)}
        if remaining := [row for row in quarantined.rows if row not in replayed]:
            files[name] = RawRows(quarantined.header, remaining)
    return files


def layout_of(source_file: str, layouts: Sequence[RawFile]) -> RawFile:
    """The layout whose patterns match the file; the first one if the patterns have changed since it was read."""
    for layout in layouts:
        name = plain_name(source_file)
        name = name.removesuffix(".jsonl") if layout.format == PARQUET else name
        if any(fnmatchcase(form, pattern) for form in (source_file, name) for pattern in layout.patterns):
            return layout
    return layouts[0]


def file_names(
    source_file: str, day: str, layout: RawFile, log_files: Collection[str], exported: Path
) -> tuple[list[str], str]:
    """The names of the earlier repair files for these rows, and the first name that is free."""
    earlier_names: list[str] = []
    for number in count(1):
        name = repair_name(source_file, day, layout, number)
        if name not in log_files and not (exported / name).exists():
            return earlier_names, name
        earlier_names.append(name)
    raise AssertionError("unreachable: some number is free")


def repair_name(source_file: str, day: str, layout: RawFile, number: int = 1) -> str:
    """A name that matches the log's patterns and shows the origin of the rows: <file>_repaired_<day>.<ending>.

    number: of the file among those for the same rows; follows the day from the second file on.
    """
    stem, ending = plain_name(source_file), ""
    # Rows of a Parquet file are exported as JSON lines: jobs.raw.reader.parquet_files.
    added = ".jsonl" if layout.format == PARQUET else ""
    stem = stem.removesuffix(added)
    while any(stem.endswith(suffix) for suffix in _ENDINGS):
        stem, _, suffix = stem.rpartition(".")
        ending = f".{suffix}{ending}"
    repaired_stem = f"{stem}_repaired_{day}" + (f"_{number}" if number > 1 else "")
    from_patterns = (pattern.replace("*", f"_{repaired_stem}", 1) for pattern in layout.patterns if "*" in pattern)
    for name in (f"{repaired_stem}{ending}", *from_patterns):
        if any(fnmatchcase(name, pattern) for pattern in layout.patterns):
            return name + added
    raise UserError(
        f"the log would read no further file than {printable(source_file)}: give its RawFile a pattern with a *"
    )


def _rows_in(file: Path, layout: RawFile) -> list[bytes]:
    """The rows below the header; empty if the file does not exist."""
    if not file.is_file():
        return []
    return [row for table in read_file(open_raw_file(file, layout), layout) for row in table.column(RAW).to_pylist()]

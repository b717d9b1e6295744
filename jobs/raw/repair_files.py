"""Files for the repair of quarantined rows: which rows go into which file.

The raw log is never changed. A repaired file is moved to the log's folder under a name that the log's patterns match,
and is read like any other file.
"""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatch
from itertools import count
from pathlib import Path

from schemas.dataset import RawFile
from schemas.errors import UserError

_SUFFIXES = (".gz", ".tsv", ".csv", ".txt")
QuarantinedRows = Mapping[tuple[str, str], Sequence[str]]  # the texts of the rows, by source file and day


def plan_repair_files(
    rows: QuarantinedRows, layout: RawFile, log_files: Collection[str], exported: Path, folder: Path
) -> dict[str, list[str]]:
    """The files to write to `folder`, each with the texts of its rows.

    log_files: the names of all files that the log has or had. exported: the folder with copies of all files that were
    exported earlier. Rows of an earlier file that is in the log now are left out: they were repaired or given up.

    Raises UserError if `folder` has the new file, or an earlier file with the same rows, which may be under repair.
    """
    files: dict[str, list[str]] = {}
    for (source_file, day), texts in rows.items():
        earlier_names, name = file_names(source_file, day, layout, log_files, exported)
        for path in (folder / file for file in (*earlier_names, name)):
            if path.exists():
                raise UserError(f"{path} exists already: move it to the raw log if it is repaired, or delete it")
        replayed = {text for file in earlier_names if file in log_files for text in _rows_in(exported / file)}
        if remaining := [text for text in texts if text not in replayed]:
            files.setdefault(name, []).extend(remaining)
    return files


def file_content(rows: Sequence[str], layout: RawFile) -> str:
    """The text of a raw file with these rows."""
    header = layout.separator.join(column.name for column in layout.columns)
    return "\n".join([header, *rows]) + "\n"


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
    stem, ending = source_file, ""
    while any(stem.endswith(suffix) for suffix in _SUFFIXES):
        stem, _, suffix = stem.rpartition(".")
        ending = f".{suffix}{ending}" if suffix != "gz" else ending
    repaired_stem = f"{stem}_repaired_{day}" + (f"_{number}" if number > 1 else "")
    from_patterns = (pattern.replace("*", f"_{repaired_stem}", 1) for pattern in layout.patterns if "*" in pattern)
    for name in (f"{repaired_stem}{ending}", *from_patterns):
        if any(fnmatch(name, pattern) for pattern in layout.patterns):
            return name
    raise UserError(f"the log would read no further file than {source_file}: give its RawFile a pattern with a *")


def _rows_in(file: Path) -> list[str]:
    """The lines below the header; empty if the file does not exist."""
    return file.read_text(encoding="utf-8").split("\n")[1:-1] if file.is_file() else []

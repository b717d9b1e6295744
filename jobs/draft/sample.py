"""The first records of every file in a folder, as tables of texts."""

import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.draft.tables import Table
from jobs.draft.text_layout import NotATable, text_layout
from jobs.draft.values import ColumnSample, column_sample
from jobs.raw.reader.decompress import DAMAGE, decompressed
from jobs.raw.reader.source_files import NO_TEXT, compression_of
from schemas.dataset import DELIMITED, JSON_LINES, PARQUET
from schemas.errors import UserError
from schemas.printable import is_text, printable

MOST_ROWS = 10_000
MOST_BYTES = 16_000_000
_MOST_FOLDERS = 4  # as in year=2024/month=05/day=01/hour=09
_PARQUET = b"PAR1"
_MAGIC_LENGTH = 16
_MOST_DAMAGED = 0.1  # of the lines of a file of JSON lines


def tables_in(folder: Path) -> list[Table]:
    """The tables of sampled_folder, without its notes."""
    return sampled_folder(folder)[0]


def sampled_folder(folder: Path) -> tuple[list[Table], list[str]]:
    """The files of the folder and of the folders in it, grouped by layout, and a note for each file without a table.

    Hidden and empty files are left out. Raises UserError if the folder does not exist, has no table, or has a damaged
    file.
    """
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder} (--raw must name the folder that holds the files of the log)")
    paths = _visible_files(folder)
    if not paths:
        raise UserError(f"no files in {folder}: --raw must name the folder that holds the files of the log")
    groups: dict[tuple[object, ...], list[Table]] = {}
    notes: dict[Path, str] = {}
    for path in paths:
        if not is_text(path.name):
            notes[path] = f"{printable(path.name)}: its name is not UTF-8; rename it"
            continue
        try:
            table = replace(table_of(path), file_names=(path.relative_to(folder).as_posix(),))
        except NotATable as error:
            notes[path] = str(error)
            continue
        groups.setdefault(_layout(table), []).append(table)
    if not groups:
        raise UserError(notes[max(notes, key=lambda path: path.stat().st_size)])
    return [_joined(group) for group in groups.values()], [*notes.values()]


def _visible_files(folder: Path) -> list[Path]:
    """The files that are not empty, by name. Names that begin with . or _ are hidden, as are the folders of such names.

    A pattern of file names has a fixed number of folders, so no log is deeper than the folders of its days.
    """
    files: list[Path] = []
    folders, depth = [folder], 0
    while folders and depth <= _MOST_FOLDERS:
        visible = [path for parent in folders for path in parent.iterdir() if not path.name.startswith((".", "_"))]
        files += (path for path in visible if path.is_file() and path.stat().st_size)
        folders = [path for path in visible if path.is_dir()]
        depth += 1
    return sorted(files)


def table_of(path: Path) -> Table:
    """The sample of one file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        beginning = file.read(_MAGIC_LENGTH)
    if beginning.startswith(_PARQUET):
        return _parquet_table(path)
    if beginning.startswith(NO_TEXT):
        raise NotATable(f"{printable(path.name)} is neither text nor Parquet: unpack it, or write it as one of them")
    content, is_whole = _first_bytes(path, beginning)
    if re.match(rb"\s*\[\s*\{", content):
        raise NotATable(
            f"{printable(path.name)} is one JSON array: write an object in each line, for example with jq -c '.[]'"
        )
    if content.lstrip()[:1] == b"{":
        columns, damaged, is_whole = _json_columns(content, path.name, is_whole=is_whole)
        return Table((path.name,), size, columns, JSON_LINES, damaged=damaged, is_whole=is_whole)
    layout = text_layout(content, path.name, is_whole=is_whole, max_records=MOST_ROWS)
    texts = [tuple(record[k] for record in layout.records) for k in range(len(layout.names))]
    samples = tuple(map(column_sample, layout.names, texts))
    return Table(
        (path.name,), size, samples, DELIMITED, layout.separator, layout.quote, layout.has_header, layout.encoding,
        layout.damaged, is_whole and len(layout.records) < MOST_ROWS, repeated=layout.repeated,
    )  # fmt: skip


def _layout(table: Table) -> tuple[object, ...]:
    """The features that files of one layout share. Without a header, the types of columns distinguish two tables."""
    names = tuple(column.name for column in table.columns)
    dtypes = () if table.has_header else tuple(column.dtype for column in table.columns)
    return table.file_format, table.separator, table.has_header, names, dtypes


def _joined(group: list[Table]) -> Table:
    """The tables of one layout as one: the files of all of them, and MOST_ROWS rows in shares as equal as possible."""
    if len(group) == 1:
        return group[0]
    samples, remaining = {}, MOST_ROWS
    for number, table in enumerate(sorted(group, key=lambda table: table.rows)):
        samples[table] = min(table.rows, remaining // (len(group) - number))
        remaining -= samples[table]
    columns = tuple(
        column_sample(column.name, [text for table in group for text in table.columns[k].texts[: samples[table]]])
        for k, column in enumerate(group[0].columns)
    )
    names = tuple(name for table in group for name in table.file_names)
    # One encoding reads all files only if all of them are UTF-8; a draft names the first that is not.
    encoding = next((table.encoding for table in group if table.encoding != "utf-8"), "utf-8")
    quote = "" if any(not table.quote for table in group) else group[0].quote
    return replace(
        group[0], file_names=names, bytes_in_all=sum(table.bytes_in_all for table in group), columns=columns,
        quote=quote, encoding=encoding, damaged=sum(table.damaged for table in group),
        is_whole=all(table.is_whole and samples[table] == table.rows for table in group),
    )  # fmt: skip


def _first_bytes(path: Path, beginning: bytes) -> tuple[bytes, bool]:
    """The first bytes of the decompressed file, and whether there are no more."""
    try:
        with decompressed(str(path), compression_of(beginning)) as file:
            content = file.read(MOST_BYTES)
            return content, not file.read(1)
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{printable(path.name)} cannot be read: {error.strerror}") from error
        raise UserError(f"{printable(path.name)} is cut off or damaged: fetch it again") from error


def _json_columns(content: bytes, name: str, *, is_whole: bool) -> tuple[tuple[ColumnSample, ...], int, bool]:
    """The columns of a file with one JSON object per line, the damaged lines, and whether the sample has all rows."""
    lines = [line for line in content.splitlines(keepends=True) if line.strip()]
    if not is_whole and lines and not lines[-1].endswith((b"\n", b"\r")):
        lines.pop()
    sampled = lines[:MOST_ROWS]
    records, first_fault = [], 0
    for number, line in enumerate(sampled, 1):
        if (record := _json_record(line)) is not None:
            records.append(record)
        else:
            first_fault = first_fault or number
    damaged = len(sampled) - len(records)
    if damaged > _MOST_DAMAGED * len(sampled):
        text = printable(sampled[first_fault - 1], 80)
        raise UserError(f"{printable(name)} begins like JSON, but line {first_fault} is not a JSON object: {text}")
    names = dict.fromkeys(key for record in records for key in record)
    columns = tuple(column_sample(key, [_text(record.get(key)) for record in records]) for key in names)
    return columns, damaged, is_whole and len(lines) <= MOST_ROWS


def _json_record(line: bytes) -> dict[str, object] | None:
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _parquet_table(path: Path) -> Table:
    try:
        with path.open("rb") as stream:
            file = pq.ParquetFile(stream)
            rows = pa.Table.from_batches([next(file.iter_batches(MOST_ROWS))])
    except (pa.ArrowException, OSError, StopIteration):
        raise UserError(f"{printable(path.name)} is an empty or damaged Parquet file: fetch it again") from None
    nested = tuple(field.name for field in rows.schema if pa.types.is_nested(field.type))
    names = [name for name in rows.column_names if name not in nested]
    columns = tuple(column_sample(name, [*map(_scalar_text, rows[name])]) for name in names)
    is_whole = file.metadata.num_rows <= MOST_ROWS
    return Table((path.name,), path.stat().st_size, columns, PARQUET, is_whole=is_whole, nested=nested)


def _scalar_text(value: pa.Scalar) -> str:
    try:
        return _text(value.as_py())
    except (OverflowError, ValueError):  # a date or a text that Python cannot have
        return ""


def _text(value: object) -> str:
    """A value of JSON or Parquet as a text of a delimited file."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return value if isinstance(value, str) else json.dumps(value, default=str)

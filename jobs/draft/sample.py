"""The first records of every file in a folder, as tables of texts."""

import bz2
import gzip
import json
import lzma
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.draft.tables import Table
from jobs.draft.text_layout import NotATable, text_layout
from jobs.draft.values import ColumnSample, column_sample
from schemas.dataset import DELIMITED, JSON_LINES, PARQUET
from schemas.errors import UserError

MOST_ROWS = 10_000
MOST_BYTES = 16_000_000
_PARQUET = b"PAR1"
_ZSTD = b"\x28\xb5\x2f\xfd"
_OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zX": lzma.open}
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, pa.ArrowException)


def tables_in(folder: Path) -> list[Table]:
    """The tables of sampled_folder, without its notes."""
    return sampled_folder(folder)[0]


def sampled_folder(folder: Path) -> tuple[list[Table], list[str]]:
    """The files directly in the folder, grouped by layout, and a note for each file without a table.

    Hidden and empty files are left out. Raises UserError if the folder does not exist, has no table, or has a damaged
    file.
    """
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder} (--raw must name the folder that holds the files of the log)")
    visible = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "_")))
    paths = sorted(path for path in visible if path.stat().st_size)
    if not paths:
        raise UserError(f"no files in {folder}: --raw must name the folder that holds the files of the log")
    groups: dict[tuple[object, ...], list[Table]] = {}
    notes: dict[Path, str] = {}
    for path in paths:
        try:
            table = table_of(path)
        except NotATable as error:
            notes[path] = str(error)
            continue
        groups.setdefault(_layout(table), []).append(table)
    if not groups:
        raise UserError(notes[max(notes, key=lambda path: path.stat().st_size)])
    return [_joined(group) for group in groups.values()], [*notes.values()]


def table_of(path: Path) -> Table:
    """The sample of one file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        beginning = file.read(4)
    if beginning == _PARQUET:
        return _parquet_table(path)
    content, is_whole = _first_bytes(path, beginning)
    if content.lstrip()[:1] == b"{":
        columns, is_whole = _json_columns(content, path.name, is_whole=is_whole)
        return Table((path.name,), size, columns, JSON_LINES, is_whole=is_whole)
    layout = text_layout(content, path.name, is_whole=is_whole, max_records=MOST_ROWS)
    texts = [tuple(record[k] for record in layout.records) for k in range(len(layout.names))]
    samples = tuple(map(column_sample, layout.names, texts))
    return Table(
        (path.name,), size, samples, DELIMITED, layout.separator, layout.quote, layout.has_header, layout.encoding,
        layout.damaged, is_whole and len(layout.records) < MOST_ROWS,
    )  # fmt: skip


def _layout(table: Table) -> tuple[object, ...]:
    """What files of one layout share. Without a header, the types of their columns distinguish two tables."""
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
        with _decompressed(path, beginning) as file:
            content = file.read(MOST_BYTES)
            return content, not file.read(1)
    except _DAMAGE as error:
        raise UserError(f"{path.name} is cut off or damaged: fetch it again") from error


def _decompressed(path: Path, beginning: bytes) -> IO[Any]:
    for magic, opener in _OPENERS.items():
        if beginning.startswith(magic):
            return cast("IO[Any]", opener(path))
    if beginning == _ZSTD:
        return cast("IO[Any]", pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb")


def _json_columns(content: bytes, name: str, *, is_whole: bool) -> tuple[tuple[ColumnSample, ...], bool]:
    """The columns of a file with one JSON object per line, and whether the sample has all of its rows."""
    lines = content.decode("utf-8", errors="replace").splitlines()
    lines = [line for line in (lines if is_whole else lines[:-1]) if line.strip()]
    records = []
    for number, line in enumerate(lines[:MOST_ROWS], 1):
        try:
            records.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            raise UserError(f"{name} begins like JSON, but line {number} is not a JSON object: {line[:80]}") from None
    names = dict.fromkeys(key for record in records for key in record)
    columns = tuple(column_sample(key, [_text(record.get(key)) for record in records]) for key in names)
    return columns, is_whole and len(lines) <= MOST_ROWS


def _parquet_table(path: Path) -> Table:
    try:
        file = pq.ParquetFile(path)
        rows = pa.Table.from_batches([next(file.iter_batches(MOST_ROWS))])
    except (pa.ArrowException, StopIteration):
        raise UserError(f"{path.name} is an empty or damaged Parquet file: fetch it again") from None
    nested = tuple(field.name for field in rows.schema if pa.types.is_nested(field.type))
    names = [name for name in rows.column_names if name not in nested]
    columns = tuple(column_sample(name, [_text(v) for v in rows[name].to_pylist()]) for name in names)
    is_whole = file.metadata.num_rows <= MOST_ROWS
    return Table((path.name,), path.stat().st_size, columns, PARQUET, is_whole=is_whole, nested=nested)


def _text(value: object) -> str:
    """A value of JSON or Parquet as a text of a delimited file."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return value if isinstance(value, str) else json.dumps(value, default=str)

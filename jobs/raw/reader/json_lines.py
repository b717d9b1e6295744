"""JSON lines to typed rows: each line is an object whose keys are the names of the columns.

A key that is absent, and null, are missing values. A number counts as it is written, so that a text column keeps 007
and 1.10. An object or a list is the value of a text column as JSON. A row with a key that occurs twice is refused.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from jobs.raw.reader.records import LARGEST_RECORD, Block
from jobs.raw.reader.source_files import SourceFile
from jobs.raw.reader.typed_rows import table_of_rows
from jobs.raw.reader.values import Value, not_a_value, typed_values
from schemas.dataset import RawColumn, RawFile
from schemas.printable import printable


class _Repeated(ValueError):
    """A key occurs twice in one object."""


def json_tables(block: Block, source: SourceFile, layout: RawFile) -> Iterator[pa.Table]:
    """The lines as tables with typed_rows.typed_schema. Blank lines are not rows."""
    records = [record for record in block.records() if record.strip(b" \t\r")]
    rows = [read_line(record, source, layout, block.size or len(record)) for record in records]
    if rows:
        yield table_of_rows(rows, records, source.name, layout)


def read_line(record: bytes, source: SourceFile, layout: RawFile, size: int) -> tuple[Sequence[Value], str | None]:
    """The values of one line and why it is refused."""
    no_values = [None] * len(layout.columns)
    names = [column.name for column in layout.columns]
    if size > LARGEST_RECORD:
        return no_values, f"the row has {size:,} bytes, more than {LARGEST_RECORD:,}"
    if b"\x00" in record:
        return no_values, "the row has a NUL byte"
    encoding = "utf-8" if source.is_transcoded else source.encoding
    try:
        text = record.decode(encoding)
        row = json.loads(text, object_pairs_hook=_unique, parse_int=str, parse_float=str, parse_constant=str)
        nested = [name for name in names if isinstance(row, dict) and isinstance(row.get(name), dict | list)]
        as_json = {name: json.dumps(json.loads(text)[name], ensure_ascii=False) for name in nested}
    except UnicodeDecodeError:
        return no_values, f"the row is not {source.encoding} text"
    except _Repeated as error:
        return no_values, str(error)
    except (ValueError, RecursionError):
        return no_values, "the row is not JSON"
    if not isinstance(row, dict):
        return no_values, "the row is not a JSON object"
    for column in layout.columns:
        if column.name in as_json and column.dtype != "string":
            return no_values, not_a_value(column, as_json[column.name])
    texts = [as_json.get(column.name) or _text_of(row.get(column.name), column) for column in layout.columns]
    for column, value in zip(layout.columns, texts, strict=True):
        if value is not None and not _is_text(value):
            return no_values, f"{printable(column.name)} has a character that is not text"
    return typed_values(texts, layout)


def _text_of(value: Any, column: RawColumn) -> str | None:
    """value: null, a boolean, or a text, as which numbers are read too."""
    if isinstance(value, bool):
        return str(int(value)) if column.dtype == "bigint" else str(value).lower()
    return None if value is None else str(value)


def _is_text(value: str) -> bool:
    try:
        return b"\x00" not in value.encode()
    except UnicodeEncodeError:  # half of a character that is written as two
        return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _Repeated("a key occurs twice in the row")
    return row

"""JSON lines to typed rows: each line is an object whose keys are the names of the columns.

Lines whose values have the types of their columns are read together, all others one by one.

A key that is absent, and null, are missing values. A number counts as it is written, so that a text column keeps 007
and 1.10. An object or a list is the value of a text column as JSON. A row with a key that occurs twice is refused.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from jobs.raw.reader.record_groups import plain_groups, reason_for_bytes
from jobs.raw.reader.records import LARGEST_RECORD, Block
from jobs.raw.reader.source_files import SourceFile
from jobs.raw.reader.typed_rows import ARROW_TYPES, plain_table, table_of_rows
from jobs.raw.reader.values import Value, is_missing, not_a_value, typed_values
from schemas.dataset import RawColumn, RawFile
from schemas.printable import printable


class _Repeated(ValueError):
    """A key occurs twice in one object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _Repeated("a key occurs twice in the row")
    return row


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_PLAIN = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
_MINUS_ZERO = re.compile(rb"-0(?![0-9.eE])")
_PLAIN_TYPES = {"bigint": {int}, "double": {int, float}, "string": {str}}


def json_tables(block: Block, source: SourceFile, layout: RawFile) -> Iterator[pa.Table]:
    """The lines as tables with typed_rows.typed_schema. Blank lines are not rows."""
    records = [record for record in block.records() if record.strip(b" \t\r")]
    odd = records if block.size else []  # of a single record, only its beginning is here
    for group, values in plain_groups(
        [] if block.size else records, partial(_plain_values, source=source, layout=layout)
    ):
        if values is None:
            odd += group
        else:
            yield plain_table(values, pa.array(group, pa.binary()), source.name, layout)
    rows = [read_line(record, source, layout, block.size or len(record)) for record in odd]
    if rows:
        yield table_of_rows(rows, odd, source.name, layout)


def _plain_values(records: list[bytes], source: SourceFile, layout: RawFile) -> list[pa.Array] | None:
    """The values of the lines by column; None if one of them has a fault or a value of another type."""
    lines = b"\n".join(records)
    # An escape can stand for a character that is not text, and a whole number has no -0.
    if b"\\u" in lines or b"\x00" in lines or _MINUS_ZERO.search(lines) or max(map(len, records)) > LARGEST_RECORD:
        return None
    try:
        text = lines.decode("utf-8" if source.is_transcoded else source.encoding)
        rows = [_PLAIN.decode(line) for line in text.split("\n")]
    except (ValueError, RecursionError):
        return None
    if not all(type(row) is dict for row in rows):
        return None
    columns = []
    for column in layout.columns:
        values = [row.get(column.name) for row in rows]
        if (array := _plain_column(values, column, layout)) is None:
            return None
        columns.append(array)
    return columns


def _plain_column(values: list[Any], column: RawColumn, layout: RawFile) -> pa.Array | None:
    types = {*map(type, values)}
    has_nulls = type(None) in types
    if types - {type(None)} - _PLAIN_TYPES[column.dtype] or (has_nulls and not column.nullable):
        return None
    if column.dtype == "string" and any(is_missing(v, "string", layout.null_tokens) for v in {*values} - {None}):
        return None
    try:
        array = pa.array(values, ARROW_TYPES[column.dtype])
    except (pa.ArrowInvalid, OverflowError):  # beyond 64 bits
        return None
    if column.dtype == "double" and not pc.all(pc.is_finite(array), min_count=0).as_py():
        return None
    return array


def read_line(record: bytes, source: SourceFile, layout: RawFile, size: int) -> tuple[Sequence[Value], str | None]:
    """The values of one line and why it is refused."""
    no_values = [None] * len(layout.columns)
    names = [column.name for column in layout.columns]
    if reason := reason_for_bytes(record, size):
        return no_values, reason
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

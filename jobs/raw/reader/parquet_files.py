"""Parquet files to typed rows, a batch of rows at a time.

Whole numbers, decimals and floats with a whole value are whole numbers; booleans are 1 and 0. In a text column a date
or a time is ISO text, with Z if the file's time has a zone. In a whole-number column a time with a zone is its
milliseconds since 1970; a time without a zone is refused there. RAW is the row as a JSON object, and a file of such
lines is read like the Parquet file: json_lines.py.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.raw.reader.source_files import SourceFile, UnreadableFile, explained, read_errors
from jobs.raw.reader.typed_rows import ARROW_TYPES, typed_schema
from jobs.raw.reader.values import LARGEST_WHOLE_FLOAT, WHITE_SPACE, not_a_value, number, whole_number
from lakehouse.storage.store_path import openable
from schemas.dataset import RawColumn, RawFile
from schemas.printable import printable

_ROWS = 16_384


def parquet_tables(source: SourceFile, layout: RawFile, first_group: int, last_group: int) -> Iterator[pa.Table]:
    """The rows of the row groups from the first to before the last as tables with typed_rows.typed_schema."""
    file = _opened(source)
    with file:
        problem = _problem(file.schema_arrow, layout)
        groups = list(range(first_group, last_group))
        for batch in explained(source, file.iter_batches(_ROWS, row_groups=groups, use_threads=False)):
            yield _typed(pa.Table.from_batches([batch]), problem, source, layout)


def row_groups(source: SourceFile) -> list[int]:
    """The size in bytes of each row group."""
    with _opened(source) as file:
        return [file.metadata.row_group(k).total_byte_size for k in range(file.metadata.num_row_groups)]


def with_columns(source: SourceFile, layout: RawFile) -> SourceFile:
    """The file with the names of the columns that are not read, and with the reason why all of its rows are refused."""
    with _opened(source) as file:
        schema = file.schema_arrow
    expected = {column.name for column in layout.columns}
    if not expected & set(schema.names):
        raise UnreadableFile(
            f"{source.shown_name} is not read: it lacks all of the columns {', '.join(sorted(expected))}"
        )
    extra = tuple(name for name in schema.names if name not in expected)
    return replace(source, extra=extra, problem=_problem(schema, layout))


def _opened(source: SourceFile) -> pq.ParquetFile:
    with read_errors(source):
        return pq.ParquetFile(openable(source.path))


def _problem(schema: pa.Schema, layout: RawFile) -> str:
    for column in layout.columns:
        places = schema.get_all_field_indices(column.name)
        if len(places) != 1:
            count = "no column" if not places else "two columns"
            return f"the file has {count} {printable(column.name)}"
        dtype = schema.field(places[0]).type
        if pa.types.is_nested(dtype):
            return f"column {printable(column.name)} of the file has lists or parts"
        if pa.types.is_timestamp(dtype) and dtype.tz is None and column.dtype != "string":
            return f"column {printable(column.name)} of the file has times without a zone: declare it as a string"
    return ""


def _typed(rows: pa.Table, problem: str, source: SourceFile, layout: RawFile) -> pa.Table:
    count = len(rows)
    raw = _as_json(rows, layout)
    reasons = np.full(count, problem or None, dtype=object)
    columns = []
    for column in layout.columns:
        dtype = ARROW_TYPES[column.dtype]
        if problem:
            columns.append(pa.nulls(count, dtype))
            continue
        value = rows.column(column.name).combine_chunks()
        typed, is_unreadable = _cast(value, column, layout)
        for k in np.flatnonzero(is_unreadable & (reasons == None)):  # noqa: E711 - elementwise
            reasons[k] = not_a_value(column, str(value[k].as_py()))
        if not column.nullable:
            is_missing = typed.is_null().to_numpy(zero_copy_only=False) & ~is_unreadable & (reasons == None)  # noqa: E711
            reasons[is_missing] = f"{printable(column.name)} is missing"
        columns.append(typed)
    return pa.Table.from_arrays(
        [*columns, pa.array(reasons, pa.string()), raw, pa.repeat(source.name, count)], schema=typed_schema(layout)
    )


def _cast(value: pa.Array, column: RawColumn, layout: RawFile) -> tuple[pa.Array, np.ndarray]:
    """The values in the column's type, null if missing or unreadable, and which are unreadable."""
    all_readable = np.zeros(len(value), dtype=bool)
    if pa.types.is_dictionary(value.type):
        value = value.dictionary_decode()
    if pa.types.is_null(value.type):
        return pa.nulls(len(value), ARROW_TYPES[column.dtype]), all_readable
    if column.dtype == "string":
        return _text(value, layout), all_readable
    if pa.types.is_boolean(value.type):
        value = value.cast(pa.int64())
    elif pa.types.is_timestamp(value.type):
        value = _milliseconds(value)
    elif _is_text(value.type) or pa.types.is_temporal(value.type):
        return _by_text(_text(value, layout), column, layout)
    number = value if pa.types.is_integer(value.type) else value.cast(pa.float64())
    is_unreadable = all_readable
    if pa.types.is_floating(number.type):
        floats = number.fill_null(0.0).to_numpy(zero_copy_only=False)
        is_unreadable = ~np.isfinite(floats)
        if column.dtype == "bigint":
            is_unreadable |= (np.trunc(floats) != floats) | (np.abs(floats) > LARGEST_WHOLE_FLOAT)
    elif pa.types.is_uint64(number.type) and column.dtype == "bigint":
        is_unreadable = number.fill_null(0).to_numpy(zero_copy_only=False) >= 2**63
    readable = pc.if_else(pa.array(~is_unreadable), number, pa.scalar(None, number.type))
    return readable.cast(ARROW_TYPES[column.dtype], safe=False), is_unreadable


def _is_text(dtype: pa.DataType) -> bool:
    return any(check(dtype) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary))


def _text(value: pa.Array, layout: RawFile) -> pa.Array:
    """ISO text for dates and times; null for a text that means a missing value."""
    if pa.types.is_timestamp(value.type):
        utc = value.cast(pa.timestamp(value.type.unit, "UTC")) if value.type.tz else value
        text = pc.strftime(utc, "%Y-%m-%dT%H:%M:%S" + ("Z" if value.type.tz else ""))  # %S has the fraction too
    else:
        text = value.cast(pa.string())
    blank = pc.equal(pc.ascii_trim(text, characters=WHITE_SPACE), "")
    is_missing = pc.or_(blank, pc.is_in(text, value_set=pa.array(layout.null_tokens, pa.string())))
    return pc.if_else(is_missing, pa.scalar(None, pa.string()), text)


def _by_text(text: pa.Array, column: RawColumn, layout: RawFile) -> tuple[pa.Array, np.ndarray]:
    read = whole_number if column.dtype == "bigint" else number
    values = [None if t is None else read(t) for t in text.to_pylist()]
    is_unreadable = np.array([v is None and t is not None for v, t in zip(values, text.to_pylist(), strict=True)], bool)
    return pa.array(values, ARROW_TYPES[column.dtype]), is_unreadable


def _as_json(rows: pa.Table, layout: RawFile) -> pa.Array:
    """Each row as a JSON object, whose values read the same as those of the row."""
    dtypes = {column.name: column.dtype for column in layout.columns}
    for place, (name, value) in enumerate(zip(rows.column_names, rows.columns, strict=True)):
        if pa.types.is_timestamp(value.type):
            is_whole = dtypes.get(name) == "bigint" and value.type.tz is not None
            as_value = _milliseconds(value.combine_chunks()) if is_whole else _text(value.combine_chunks(), layout)
            rows = rows.set_column(place, name, as_value)
    encode = json.JSONEncoder(default=_json_value, ensure_ascii=False).encode
    return pa.array([encode(row).encode() for row in rows.to_pylist()], pa.binary())


def _json_value(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _milliseconds(value: pa.Array) -> pa.Array:
    return value.cast(pa.timestamp("ms", value.type.tz), safe=False).cast(pa.int64())

"""Parquet files to typed rows, a batch of rows at a time.

Whole numbers, decimals and floats with a whole value are whole numbers; booleans are 1 and 0. In a text column a date
or a time is ISO text, with Z if the file's time has a zone; bytes of a fixed length are hexadecimal digits. In a
whole-number column a time with a zone is its milliseconds since 1970; a time without a zone is refused there. RAW is
the row as a JSON object, and a file of such lines is read like the Parquet file: json_lines.py.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.raw.reader.record_groups import reason_for_bytes
from jobs.raw.reader.records import LARGEST_RECORD
from jobs.raw.reader.source_files import SourceFile, UnreadableFile, explained, read_errors
from jobs.raw.reader.typed_rows import ARROW_TYPES, typed_schema
from jobs.raw.reader.values import LARGEST_WHOLE_FLOAT, WHITE_SPACE, not_a_value, number, whole_number
from schemas.dataset import RawColumn, RawFile
from schemas.printable import printable

_ROWS = 16_384
_FIRST_ISO_SECOND, _END_OF_ISO_SECONDS = -62_135_596_800, 253_402_300_800  # of the years 1 and 10000, since 1970


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
        return pq.ParquetFile(source.path)


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
    for k in np.flatnonzero(pc.binary_length(raw).to_numpy() > LARGEST_RECORD):
        reasons[k] = reasons[k] or reason_for_bytes(raw[k].as_py(), len(raw[k].as_py()))
    columns = []
    for column in layout.columns:
        dtype = ARROW_TYPES[column.dtype]
        if problem:
            columns.append(pa.nulls(count, dtype))
            continue
        value = rows.column(column.name).combine_chunks()
        typed, is_unreadable = _cast(value, column, layout)
        for k in np.flatnonzero(is_unreadable & (reasons == None)):  # noqa: E711 - elementwise
            reasons[k] = not_a_value(column, _message_text(value[k]))
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
    if isinstance(value, pa.ExtensionArray):
        value = pa.array([None if v is None else str(v) for v in value.to_pylist()], pa.string())
    if pa.types.is_null(value.type):
        return pa.nulls(len(value), ARROW_TYPES[column.dtype]), all_readable
    if column.dtype == "string":
        return _text(value, layout)
    if pa.types.is_boolean(value.type):
        value = value.cast(pa.int64())
    elif pa.types.is_timestamp(value.type):
        value = _milliseconds(value)
    elif _is_text(value.type) or pa.types.is_temporal(value.type):
        return _by_text(*_text(value, layout), column)
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
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(check(dtype) for check in (*checks, pa.types.is_fixed_size_binary))


def _text(value: pa.Array, layout: RawFile) -> tuple[pa.Array, np.ndarray]:
    """The texts, null if missing or not text, and which are not text."""
    text = _as_text(value)
    is_unreadable = (
        text.is_null().to_numpy(zero_copy_only=False) & ~value.is_null().to_numpy(zero_copy_only=False)
    ) | (pc.fill_null(pc.match_substring(text, "\0"), False).to_numpy(zero_copy_only=False))
    blank = pc.equal(pc.ascii_trim(text, characters=WHITE_SPACE), "")
    is_missing = pc.or_(blank, pc.is_in(text, value_set=pa.array(layout.null_tokens, pa.string())))
    return pc.if_else(pc.or_(is_missing, pa.array(is_unreadable)), pa.scalar(None, pa.string()), text), is_unreadable


def _as_text(value: pa.Array) -> pa.Array:
    """ISO text of dates and times, hexadecimal digits of bytes of a fixed length; null for what is not a text."""
    if pa.types.is_timestamp(value.type):
        utc = value.cast(pa.timestamp(value.type.unit, "UTC")) if value.type.tz else value
        # A time of a year that ISO text cannot write would come out as another one.
        utc = pc.if_else(_has_iso_year(value), utc, pa.scalar(None, utc.type))
        return pc.strftime(utc, "%Y-%m-%dT%H:%M:%S" + ("Z" if value.type.tz else ""))  # %S has the fraction too
    if pa.types.is_fixed_size_binary(value.type):
        return pa.array([None if v is None else v.hex() for v in value.to_pylist()], pa.string())
    if not _is_text(value.type):
        return value.cast(pa.string())
    try:
        return value.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:  # bytes that are not UTF-8, which a text column of a file may have as well
        return pa.array(map(_decoded, value.cast(pa.binary()).to_pylist()), pa.string())


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _has_iso_year(value: pa.Array) -> pa.Array:
    """Whether the time is in the years 1 to 9999; true for a null."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[value.type.unit]
    limits = (bound * per_second for bound in (_FIRST_ISO_SECOND, _END_OF_ISO_SECONDS))
    first, end = (max(min(limit, 2**63 - 1), -(2**63)) for limit in limits)
    number = value.cast(pa.int64())
    return pc.fill_null(pc.and_(pc.greater_equal(number, first), pc.less(number, end)), True)


def _message_text(value: pa.Scalar) -> str:
    """The value for a message."""
    if _is_text(value.type):
        value = value.cast(pa.large_binary())
    try:
        python_value = value.as_py()
    except (OverflowError, ValueError):
        return str(value.cast(pa.string()).as_py())
    if isinstance(python_value, bytes):
        return python_value.decode(errors="backslashreplace")
    return str(python_value)


def _by_text(text: pa.Array, is_unreadable: np.ndarray, column: RawColumn) -> tuple[pa.Array, np.ndarray]:
    read = whole_number if column.dtype == "bigint" else number
    values = [None if t is None else read(t) for t in text.to_pylist()]
    is_no_number = [v is None and t is not None for v, t in zip(values, text.to_pylist(), strict=True)]
    return pa.array(values, ARROW_TYPES[column.dtype]), is_unreadable | np.array(is_no_number, bool)


def _as_json(rows: pa.Table, layout: RawFile) -> pa.Array:
    """Each row as a JSON object, whose values read the same as those of the row."""
    dtypes = {column.name: column.dtype for column in layout.columns}
    columns = []
    for name, value in zip(rows.column_names, rows.columns, strict=True):
        is_whole = dtypes.get(name) == "bigint" and pa.types.is_timestamp(value.type) and value.type.tz is not None
        columns.append(_milliseconds(value.combine_chunks()).to_pylist() if is_whole else _json_values(value))
    encode = json.JSONEncoder(default=_json_value, ensure_ascii=False).encode
    names = rows.column_names
    return pa.array(
        [encode(dict(zip(names, row, strict=True))).encode() for row in zip(*columns, strict=True)], pa.binary()
    )


def _json_values(column: pa.ChunkedArray) -> list[Any]:
    value = column.combine_chunks()
    if pa.types.is_timestamp(value.type):
        value = pc.coalesce(_as_text(value), value.cast(pa.int64()).cast(pa.string()))
    elif pa.types.is_temporal(value.type) or pa.types.is_fixed_size_binary(value.type):
        value = _as_text(value)
    elif _is_text(value.type):
        text = _as_text(value)
        value = text if text.null_count == value.null_count else value.cast(pa.large_binary())
    try:
        return value.to_pylist()
    except (OverflowError, ValueError):  # a date or a text inside a list that Python cannot have
        return [_value_or_note(scalar) for scalar in value]


def _value_or_note(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        return "a value that cannot be shown"


def _json_value(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _milliseconds(value: pa.Array) -> pa.Array:
    return value.cast(pa.timestamp("ms", value.type.tz), safe=False).cast(pa.int64())

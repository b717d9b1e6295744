"""Blocks of delimited text to typed rows: plain records together by Arrow's CSV reader, all others one by one.

A record is plain if Arrow reads it as values.py would. Nearly all records of a log are plain.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from jobs.raw.reader.fields import split_fields
from jobs.raw.reader.record_groups import plain_groups, reason_for_bytes
from jobs.raw.reader.records import LARGEST_RECORD, Block
from jobs.raw.reader.source_files import SourceFile
from jobs.raw.reader.typed_rows import ARROW_TYPES, plain_table, raw_records, table_of_rows
from jobs.raw.reader.values import LARGEST_WHOLE_FLOAT, Value, typed_values
from schemas.dataset import RawFile

_BYTE_ORDER_MARK = "\ufeff".encode()
_FOREIGN_BEGINNINGS = (_BYTE_ORDER_MARK, b"\r")  # of files that were put together, or whose lines end in LF CR
_ONE_BYTE_SEPARATOR = b"\x1f"  # Arrow reads this one in place of a longer one

Row = tuple[Sequence[Value], str | None]


def block_tables(block: Block, source: SourceFile, layout: RawFile) -> Iterator[pa.Table]:
    """The records as tables with typed_rows.typed_schema. Blank lines are not rows."""
    if (values := _plain_values(block, source, layout)) is not None:
        yield plain_table(values, raw_records(block), source.name, layout)
        return
    records = _not_blank(block.records(), source)
    plain, odd = _separated(records, source)
    for group, group_values in plain_groups(plain, partial(_joined_values, source=source, layout=layout)):
        if group_values is None:
            odd += group
        else:
            yield plain_table(group_values, pa.array(group, pa.binary()), source.name, layout)
    sizes = {len(record): block.size for record in odd} if block.size else {}
    rows = [read_record(record, source, layout, sizes.get(len(record), len(record))) for record in odd]
    if rows:
        yield table_of_rows(rows, odd, source.name, layout)


def read_record(record: bytes, source: SourceFile, layout: RawFile, size: int | None = None) -> Row:
    """The values of one record and why it is refused. size: of the whole record if `record` is only its beginning."""
    no_values = [None] * len(layout.columns)
    size = size or len(record)
    if source.problem:
        return no_values, source.problem
    if reason := reason_for_bytes(record, size):
        return no_values, reason
    encoding = "utf-8" if source.is_transcoded else source.encoding
    try:
        record.decode(encoding)
        if record.startswith(_FOREIGN_BEGINNINGS):
            return no_values, "the row begins with a byte order mark or a line end of another kind"
        fields = split_fields(record, source.dialect, limit=source.fields + 1)
        if fields is None and source.dialect.separator == b"\t":
            # Programs that write tab-separated text rarely quote, so this is a quote that a person has typed.
            fields = record.split(b"\t", source.fields + 1)
        if fields is None:
            return no_values, "a quoted field does not end properly"
        if len(fields) < source.fields:
            return no_values, f"the row has {len(fields)} of {source.fields} fields"
        if len(fields) > source.fields:
            return no_values, f"the row has more than {source.fields} fields"
        texts = [fields[place].decode(encoding) for place in _places(source)]
    except UnicodeDecodeError:
        return no_values, f"the row is not {source.encoding} text"
    return typed_values(texts, layout)


def _places(source: SourceFile) -> list[int]:
    """The field of each column; every column has one in a file without a problem."""
    return [place for place in source.columns if place is not None]


def _not_blank(records: list[bytes], source: SourceFile) -> list[bytes]:
    blank = b" \t\r".replace(source.dialect.separator, b"")
    return [record for record in records if record.strip(blank)]


def _plain_values(block: Block, source: SourceFile, layout: RawFile) -> list[pa.Array] | None:
    """The values of all records if all of them are plain, which the checks of this function find quickly."""
    data = block.data
    if source.problem or not block.is_well_formed or b"\x00" in data:
        return None
    if not data.isascii() and _BYTE_ORDER_MARK in data:
        return None
    if block.largest > LARGEST_RECORD or (b"\r" in data and data.count(b"\r") != data.count(b"\r\n")):
        return None
    # A search for two bytes takes twenty times as long as one for a byte, so it comes only where it may succeed.
    may_have_blank_line = block.smallest <= len(b"\r\n") or bool(source.dialect.quote and source.dialect.quote in data)
    if may_have_blank_line and (b"\n\n" in data or b"\n\r\n" in data or data.startswith((b"\n", b"\r\n"))):
        return None
    text = _as_utf8(data, source)
    return None if text is None else _values(text, len(block), source, layout)


def _as_utf8(data: bytes, source: SourceFile) -> bytes | None:
    """The bytes as UTF-8, None if they cannot be decoded."""
    if data.isascii():
        return data
    try:
        text = data.decode("utf-8" if source.is_transcoded else source.encoding)
    except UnicodeDecodeError:
        return None
    return data if source.is_transcoded or source.encoding == "utf-8" else text.encode()


def _separated(records: list[bytes], source: SourceFile) -> tuple[list[bytes], list[bytes]]:
    """The records that Arrow may read together, and the others."""
    if source.problem:
        return [], records
    plain: list[bytes] = []
    odd: list[bytes] = []
    is_plain = _plain_record_check(source)
    for record in records:
        (plain if is_plain(record) else odd).append(record)
    return plain, odd


def _plain_record_check(source: SourceFile) -> Callable[[bytes], bool]:
    """A function that returns whether Arrow may read a record together with others."""
    dialect = source.dialect
    odd = re.compile(rb"\x00|\r(?!\n)|^" + _BYTE_ORDER_MARK)
    separator, quote = re.escape(dialect.separator), re.escape(dialect.quote or b'"')
    quoted = quote + rb"[^" + quote + rb"]*+(?:" + 2 * quote + rb"[^" + quote + rb"]*+)*+" + quote
    field = rb"(?:" + quoted + rb"|[^" + quote + separator + rb"][^" + separator + rb"]*+|)"
    well_formed = re.compile(field + rb"(?:" + separator + field + rb")*+", re.DOTALL)

    def is_plain(record: bytes) -> bool:
        if len(record) > LARGEST_RECORD or odd.search(record):
            return False
        if dialect.quote and dialect.quote in record:
            return len(dialect.separator) == 1 and well_formed.fullmatch(record) is not None
        return b"\n" not in record

    return is_plain


def _joined_values(records: list[bytes], source: SourceFile, layout: RawFile) -> list[pa.Array] | None:
    text = _as_utf8(b"\n".join(records) + b"\n", source)
    return None if text is None else _values(text, len(records), source, layout)


def _values(text: bytes, count: int, source: SourceFile, layout: RawFile) -> list[pa.Array] | None:
    """The columns of `count` records, None if a record has another meaning or a fault.

    Whole numbers are read as floats if Arrow cannot read them as whole numbers, or would read hexadecimal digits.
    """
    if (b"x" in text and b"0x" in text) or (b"X" in text and b"0X" in text):
        return _parsed(text, count, source, layout, whole_as_float=True)
    values = _parsed(text, count, source, layout, whole_as_float=False)
    return values if values is not None else _parsed(text, count, source, layout, whole_as_float=True)


def _parsed(
    text: bytes, count: int, source: SourceFile, layout: RawFile, *, whole_as_float: bool
) -> list[pa.Array] | None:
    types = {column.name: ARROW_TYPES[column.dtype] for column in layout.columns}
    if whole_as_float:
        types = {name: pa.float64() if dtype == pa.int64() else dtype for name, dtype in types.items()}
    places = [str(place) for place in _places(source)]
    dialect, delimiter = source.dialect, source.dialect.separator
    if len(delimiter) > 1:
        # Records that have a quote with a meaning are read one by one.
        if _ONE_BYTE_SEPARATOR in text:
            return None
        text, delimiter = text.replace(delimiter, _ONE_BYTE_SEPARATOR), _ONE_BYTE_SEPARATOR
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(text),
            read_options=pa_csv.ReadOptions(
                column_names=[str(k) for k in range(source.fields)], use_threads=False, block_size=len(text) + 1
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter.decode(), quote_char=dialect.quote.decode() or False, double_quote=True,
                newlines_in_values=bool(dialect.quote) and dialect.quote in text, ignore_empty_lines=False,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict(zip(places, types.values(), strict=True)), include_columns=places,
                null_values=["", *layout.null_tokens], strings_can_be_null=True,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid:
        return None
    if len(table) != count:
        return None
    # A quoted field may be a line break alone.
    has_blanks = any(blank in text for blank in (b" ", b"\t", b"\v", b"\f", dialect.quote) if blank)
    values = []
    for place, column in zip(places, layout.columns, strict=True):
        value = _checked(table.column(place), column.dtype, has_blanks)
        if value is None or (value.null_count and not column.nullable):
            return None
        values.append(value.combine_chunks())
    return values


def _checked(value: pa.ChunkedArray, dtype: str, has_blanks: bool) -> pa.ChunkedArray | None:
    """The values in the type of their column; None if Arrow has read what values.py refuses or calls missing."""
    if dtype == "string":
        is_blank = has_blanks and pc.any(pc.ascii_is_space(value), min_count=0).as_py()
        return None if is_blank else value
    if dtype == "double":
        return value if pc.all(pc.is_finite(value), min_count=0).as_py() else None
    if value.type != pa.int64():
        if not pc.all(pc.less_equal(pc.abs(value), LARGEST_WHOLE_FLOAT), min_count=0).as_py():
            return None
        if not pc.all(pc.equal(pc.trunc(value), value), min_count=0).as_py():
            return None
        return value.cast(pa.int64())
    return value

"""Lines of a delimited text file to typed columns, with a reason where a line cannot be read.

What a line means is what Spark's own CSV reader makes of it. Nearly all lines of a log are plain, though: the right
number of fields, printable ASCII without blanks, quotes around whole fields if at all, numbers as anybody writes them.
Those are read by Arrow, thousands at once in Spark's workers, in a tenth of the time; a line in which the two could
differ goes to Spark.
"""

import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.dataset import RawFile

SOURCE = "_source_file"
_LINE, _PLAIN, _BLOCK = "_line", "_plain", "_block"
_FIELDS, _DAMAGED = "_fields", "_damaged"  # _damaged: the text of a line with a wrong number of fields
_TYPES = {"bigint": pa.int64(), "double": pa.float64(), "string": pa.string()}
_NOUNS = {"bigint": "a whole number", "double": "a number"}
_FEW = 16  # lines that are not worth being cut in halves again to find the one that is not plain
_BLANK = "".join(map(chr, range(33)))  # what Spark takes for white space around a line


def read_lines(text: DataFrame, layout: RawFile) -> DataFrame:
    """The lines below the header, plain ones with their values. For `typed`.

    text: as spark.read.text gives it, `_metadata` included.
    """
    lines = text.select(
        F.col("value").alias(_LINE), F.col("_metadata.file_name").alias(SOURCE),
        F.col("_metadata.file_block_start").alias(_BLOCK),
    )  # fmt: skip
    values = ", ".join(f"`{column.name}` {column.dtype}" for column in layout.columns)
    return lines.mapInArrow(_reader(layout), f"{values}, {_LINE} string, {_PLAIN} boolean, {SOURCE} string")


def typed(lines: DataFrame, layout: RawFile) -> DataFrame:
    """The layout's columns, _reason (why the row is unreadable, null if it is fine), _raw (the row's text), SOURCE."""
    texts = ", ".join(f"`{column.name}` string" for column in layout.columns)
    options = {"sep": layout.separator, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": _DAMAGED,
               "quote": '"', "escape": '"', "maxCharsPerColumn": "-1"}  # fmt: skip
    plain = F.col(_PLAIN)
    lines = lines.withColumn(_FIELDS, F.from_csv(F.when(~plain, F.col(_LINE)), f"{texts}, {_DAMAGED} string", options))
    damaged = F.col(_FIELDS)[_DAMAGED]
    reasons = [F.when(damaged.isNotNull(), f"the row does not have {len(layout.columns)} fields")]
    found = []
    for column in layout.columns:
        text = F.trim(F.col(_FIELDS)[column.name])
        missing = text.isNull() | (text == "")
        value = text if column.dtype == "string" else text.try_cast(column.dtype)
        if column.dtype == "double":
            value = F.when(F.abs(value) < float("inf"), value)  # NaN and Infinity parse as doubles
        if column.dtype != "string":
            reasons.append(
                F.when(~missing & value.isNull(),
                       F.concat(F.lit(f"{column.name} is not {_NOUNS[column.dtype]}: "), F.substring(text, 1, 40)))
            )  # fmt: skip
        if not column.nullable:
            reasons.append(F.when(missing, f"{column.name} is missing"))
        found.append(F.when(plain, F.col(column.name)).otherwise(F.when(~missing, value)).alias(column.name))
    fields = [F.coalesce(F.col(_FIELDS)[column.name], F.lit("")) for column in layout.columns]
    raw: Column = F.coalesce(damaged, F.concat_ws(layout.separator, *fields))
    return lines.select(
        *found,
        F.when(~plain, F.coalesce(*reasons)).alias("_reason"),
        F.when(plain, F.col(_LINE)).otherwise(raw).alias("_raw"),
        SOURCE,
    )


def _reader(layout: RawFile) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    schema = pa.schema([
        *((column.name, _TYPES[column.dtype]) for column in layout.columns),
        (_LINE, pa.string()), (_PLAIN, pa.bool_()), (SOURCE, pa.string()),
    ])  # fmt: skip

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in _without_header(batches):
            for lines, values in parsed(batch.column(_LINE), batch.column(SOURCE), layout):
                size, line, source = len(lines), *lines.columns
                columns = values.columns if values else [pa.nulls(size, _TYPES[c.dtype]) for c in layout.columns]
                plain = pa.array(np.full(size, values is not None))
                yield from pa.table([*columns, line, plain, source], schema=schema).to_batches()

    return read


def _without_header(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A file's first line, which was checked before, stands at the beginning of the part of the file that starts it."""
    before = None
    for batch in batches:
        if not len(batch):
            continue
        source, block = batch.column(SOURCE), batch.column(_BLOCK).to_numpy()
        begins = np.ones(len(batch), dtype=bool)
        begins[1:] = (np.diff(block) != 0) | pc.not_equal(source[1:], source[:-1]).to_numpy(zero_copy_only=False)
        begins[0] = before != (source[0].as_py(), block[0])
        before = source[-1].as_py(), block[-1]
        yield batch.filter(pa.array(~(begins & (block == 0))))


def parsed(line: pa.Array, source: pa.Array, layout: RawFile) -> Iterator[tuple[pa.Table, pa.Table | None]]:
    """The lines in any order, in parts, each with its values; with None where Spark must read it. Blank ones are gone.

    Lines: columns line and source.
    """
    lines = pa.table([line, source], names=["line", "source"])
    separator = re.escape(layout.separator)
    # As a rule all lines are plain and without quotes: one look at the whole tells, and spares four at every line.
    text = _text(line)
    if not pc.match_substring_regex(text, f'[^!-~{separator}\n]|0[xX]|"').as_py():
        values = _values(text, layout)
        if values is not None and len(values) == len(lines):  # nothing at all is a file without rows
            yield lines, values
            return
    odd = pc.match_substring_regex(line, f"[^!-~{separator}]|0[xX]")
    quoted = pc.match_substring(line, '"')
    fields = pc.add(pc.count_substring(line, layout.separator), 1)
    bare = pc.and_not(pc.and_not(pc.equal(fields, len(layout.columns)), odd), quoted)
    field = f'(?:[^{separator}"]*|"[^"]*")'
    whole = pc.and_not(pc.and_(quoted, pc.match_substring_regex(line, f"^{field}(?:{separator}{field})*$")), odd)
    rest = [lines.filter(pc.invert(pc.or_(bare, whole)))]
    for plain in (bare, whole):
        for part, values in _in_halves(lines.filter(plain), layout):
            if values is None:
                rest.append(part)
            else:
                yield part, values
    left = pa.concat_tables(rest)
    left = left.filter(pc.not_equal(pc.ascii_trim(left.column("line"), characters=_BLANK), ""))
    if len(left):
        yield left, None


def _in_halves(lines: pa.Table, layout: RawFile) -> Iterator[tuple[pa.Table, pa.Table | None]]:
    """Cut until the lines of a part are all plain, or few."""
    if not len(lines):
        return
    values = _values(_text(lines.column("line").combine_chunks()), layout)
    if values is not None or len(lines) <= _FEW:
        yield lines, values
    else:
        half = len(lines) // 2
        yield from _in_halves(lines.slice(0, half), layout)
        yield from _in_halves(lines.slice(half), layout)


def _text(line: pa.Array) -> pa.StringScalar:
    """The lines in one, as they lie in a file."""
    return pc.binary_join(pa.ListArray.from_arrays([0, len(line)], line), "\n")[0]


def _values(text: pa.StringScalar, layout: RawFile) -> pa.Table | None:
    """None where a line has another number of fields, or a value is missing or not as its column should be."""
    content = text.as_buffer()
    try:
        values = pa_csv.read_csv(
            pa.BufferReader(content),
            read_options=pa_csv.ReadOptions(
                column_names=[column.name for column in layout.columns], use_threads=False, block_size=content.size + 1
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=layout.separator, quote_char='"', double_quote=False, ignore_empty_lines=False
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={column.name: _TYPES[column.dtype] for column in layout.columns},
                null_values=[""], strings_can_be_null=True,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid:
        return None
    for column in layout.columns:
        value = values.column(column.name)
        if value.null_count and not column.nullable:
            return None
        if column.dtype == "double" and not pc.all(pc.is_finite(value), min_count=0).as_py():
            return None
    return values

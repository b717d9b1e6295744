"""Lines of delimited text files to typed columns, with a reason for each line that cannot be read.

A line means what Spark's own CSV reader makes of it. Arrow reads the plain lines (plain_lines.py), thousands in one
call, in Spark's workers; all other lines are read by Spark.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.raw.files import RawFiles
from jobs.raw.plain_lines import ARROW_TYPES, parse_lines
from schemas.dataset import RawFile

REASON, RAW, SOURCE = "_reason", "_raw", "_source_file"
_LINE, _IS_PLAIN, _BLOCK = "_line", "_plain", "_block"
_FIELDS, _DAMAGED = "_fields", "_damaged"  # _damaged: the text of a line with a wrong number of fields
_NOUNS = {"bigint": "a whole number", "double": "a number"}


def read_typed_lines(spark: SparkSession, files: RawFiles) -> DataFrame:
    """The lines below the headers, one row per line that is not blank.

    Columns: those of the layout (null if missing or unreadable), REASON (why the line cannot be read, null if it can),
    RAW (the text of the line), SOURCE (the name of its file).
    """
    return _typed(_with_plain_values(spark, files), files.layout)


def _with_plain_values(spark: SparkSession, files: RawFiles) -> DataFrame:
    """The lines with _IS_PLAIN, and with the values of the plain lines."""
    text = spark.read.text([str(path.resolve()) for path in files.paths])
    lines = text.select(
        F.col("value").alias(_LINE), F.col("_metadata.file_name").alias(SOURCE),
        F.col("_metadata.file_block_start").alias(_BLOCK),
    )  # fmt: skip
    values = ", ".join(f"`{column.name}` {column.dtype}" for column in files.layout.columns)
    ddl = f"{values}, {_LINE} string, {_IS_PLAIN} boolean, {SOURCE} string"
    return lines.mapInArrow(_plain_line_reader(files.layout), ddl)


def _typed(lines: DataFrame, layout: RawFile) -> DataFrame:
    texts = ", ".join(f"`{column.name}` string" for column in layout.columns)
    options = {"sep": layout.separator, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": _DAMAGED,
               "quote": '"', "escape": '"', "maxCharsPerColumn": "-1"}  # fmt: skip
    is_plain = F.col(_IS_PLAIN)
    lines = lines.withColumn(
        _FIELDS, F.from_csv(F.when(~is_plain, F.col(_LINE)), f"{texts}, {_DAMAGED} string", options)
    )
    damaged = F.col(_FIELDS)[_DAMAGED]
    reasons = [F.when(damaged.isNotNull(), f"the row does not have {len(layout.columns)} fields")]
    columns = []
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
        columns.append(F.when(is_plain, F.col(column.name)).otherwise(F.when(~missing, value)).alias(column.name))
    fields = [F.coalesce(F.col(_FIELDS)[column.name], F.lit("")) for column in layout.columns]
    raw: Column = F.coalesce(damaged, F.concat_ws(layout.separator, *fields))
    return lines.select(
        *columns,
        F.when(~is_plain, F.coalesce(*reasons)).alias(REASON),
        F.when(is_plain, F.col(_LINE)).otherwise(raw).alias(RAW),
        SOURCE,
    )


def _plain_line_reader(layout: RawFile) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    schema = pa.schema([
        *((column.name, ARROW_TYPES[column.dtype]) for column in layout.columns),
        (_LINE, pa.string()), (_IS_PLAIN, pa.bool_()), (SOURCE, pa.string()),
    ])  # fmt: skip

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in _without_headers(batches):
            for lines, values in parse_lines(batch.column(_LINE), batch.column(SOURCE), layout):
                size, line, source = len(lines), *lines.columns
                columns = values.columns if values else [pa.nulls(size, ARROW_TYPES[c.dtype]) for c in layout.columns]
                is_plain = pa.array(np.full(size, values is not None))
                yield from pa.table([*columns, line, is_plain, source], schema=schema).to_batches()

    return read


def _without_headers(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Drops the first line of each file, which find_raw_files has checked: the first line of its block 0."""
    previous_block = None
    for batch in batches:
        if not len(batch):
            continue
        source, block = batch.column(SOURCE), batch.column(_BLOCK).to_numpy()
        starts_block = np.ones(len(batch), dtype=bool)
        starts_block[1:] = (np.diff(block) != 0) | pc.not_equal(source[1:], source[:-1]).to_numpy(zero_copy_only=False)
        starts_block[0] = previous_block != (source[0].as_py(), block[0])
        previous_block = source[-1].as_py(), block[-1]
        yield batch.filter(pa.array(~(starts_block & (block == 0))))

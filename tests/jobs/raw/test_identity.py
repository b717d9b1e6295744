"""Identities are the hashes that Spark's function xxhash64 computes, so that ids stay what they were."""

import random

import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from jobs.raw.identity import identity
from schemas.dataset import RawColumn

TEXTS = ["", "a", "é日本", "x" * 7, "x" * 8, "x" * 31, "x" * 32, "y" * 33, "z" * 75, "null", None]
DRAW = random.Random(3)
COLUMNS = {
    "text": ("string", [DRAW.choice(TEXTS) for _ in range(500)]),
    "number": ("bigint", [DRAW.choice([0, 1, -1, 2**63 - 1, -(2**63), None]) for _ in range(500)]),
    "price": ("double", [DRAW.choice([0.0, -0.0, 0.1, -1e300, 5e-324, None]) for _ in range(500)]),
    "word": ("string", [DRAW.choice(TEXTS[:-1]) + str(DRAW.randrange(10**6)) for _ in range(500)]),
}
ARROW = {"string": pa.string(), "bigint": pa.int64(), "double": pa.float64()}


def ids(names, *, name="log", chunks=1):
    columns = []
    for column in names:
        dtype, values = COLUMNS[column]
        size = -(-len(values) // chunks)
        parts = [pa.array(values[k : k + size], ARROW[dtype]) for k in range(0, len(values), size)]
        columns.append((pa.chunked_array(parts), RawColumn(column, dtype, nullable=None in values)))
    return identity(columns, name).to_pylist()


@pytest.mark.parametrize("names", [("text", "number", "price", "word"), ("word",), ("price", "text"), ("number",)])
@pytest.mark.parametrize("name", ["", "the name of a dataset with more than 32 letters"])
def test_the_hash_is_that_of_spark(spark_sql, names, name):
    ddl = ", ".join(f"{column} {COLUMNS[column][0]}" for column in names)
    frame = spark_sql.createDataFrame(list(zip(*(COLUMNS[column][1] for column in names), strict=True)), ddl)
    parts = [F.lit(name)] if name else []
    for column in names:
        parts.append(F.col(column))
        if None in COLUMNS[column][1]:
            parts.append(F.when(F.col(column).isNull(), "null").otherwise(COLUMNS[column][0]))
    assert ids(names, name=name) == [row.id for row in frame.select(F.xxhash64(*parts).alias("id")).collect()]


def test_chunks_do_not_change_an_id():
    assert ids(COLUMNS, chunks=1) == ids(COLUMNS, chunks=7)


def test_a_null_has_a_place():
    pair = [RawColumn("a", "bigint", nullable=True), RawColumn("b", "bigint", nullable=True)]
    table = pa.table({"a": pa.array([7, None]), "b": pa.array([None, 7])})
    first, second = identity(zip(table.columns, pair, strict=True), "log").to_pylist()
    assert first != second

"""Keys are in the bucket in which Spark's repartition puts them."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import functions as F

from jobs.spark.bucket_numbers import bucket_numbers

TEXTS = ["", "a", "ab", "abc", "abcd", "é", "用户", "user_12345678901", "\x00", "x" * 1000, None]
NUMBERS = [0, 1, -1, 2**31 - 1, -(2**31), 7, None]


@pytest.mark.spark
@pytest.mark.parametrize(
    ("dtype", "keys"),
    [
        ("string", [*TEXTS, *(f"{k * 7919}" for k in range(300))]),
        ("binary", [*(text.encode() for text in TEXTS if text is not None), None, b"\xff\x80\x7f", b"\xff" * 7]),
        ("int", NUMBERS),
        ("bigint", [*NUMBERS, 2**63 - 1, -(2**63), *(k * 10**15 for k in range(300))]),
    ],
)
def test_the_bucket_is_the_partition_of_spark(spark_sql, dtype, keys):
    frame = spark_sql.createDataFrame([(key,) for key in keys], f"key {dtype}")
    in_spark = frame.select("key", F.pmod(F.hash("key"), F.lit(8)).alias("bucket")).toArrow()
    assert bucket_numbers(in_spark.column("key"), 8).tolist() == in_spark.column("bucket").to_pylist()
    partition = frame.repartition(8, "key").select("key", F.spark_partition_id().alias("bucket")).toArrow()
    assert bucket_numbers(partition.column("key"), 8).tolist() == partition.column("bucket").to_pylist()


@given(st.lists(st.text() | st.none()), st.integers(0, 3), st.integers(1, 50))
def test_the_bucket_depends_on_the_key_alone(keys, start, buckets):
    """Not on the rows around it, nor on where the column was cut."""
    column = pa.chunked_array([pa.array(keys, pa.string())])
    numbers = bucket_numbers(column, buckets)
    assert ((numbers >= 0) & (numbers < buckets)).all()
    part = column.slice(start)
    assert bucket_numbers(part, buckets).tolist() == numbers[start:].tolist()
    assert [bucket_numbers(pa.chunked_array([pa.array([key], pa.string())]), buckets)[0] for key in keys] == [*numbers]

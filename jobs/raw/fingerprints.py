"""Fingerprints of the rows of each log file and day, which do not depend on the order of the rows."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.raw.lines import RAW, REASON, SOURCE
from jobs.raw.rows import DS

HASH = "_hash"


def with_hashes(rows: DataFrame) -> DataFrame:
    """Adds HASH, over all values of a row but its file, and empties the RAW of usable rows, half of a row's size.

    rows: as from jobs.raw.rows.read_rows. The day is in the hash through the time.
    """
    values = [F.col(name) for name in rows.columns if name not in (DS, SOURCE)]
    # Spark's hash skips nulls: without their positions, a value that moves to the next column would leave it unchanged.
    row_hash = F.xxhash64(*values, *(value.isNull() for value in values))
    return rows.withColumn(HASH, row_hash).withColumn(RAW, F.when(F.col(REASON).isNotNull(), F.col(RAW)))


def fingerprints_by_file(rows: DataFrame) -> DataFrame:
    """The number of rows of each file and day, usable and quarantined ones apart, and two sums over their hashes.

    Columns: file, ds, is_quarantined, rows, high, low, xor. A row that occurs twice cancels out in an exclusive or but
    not in a sum. The sum is high * 2**32 + low, since it does not fit into 64 bits.
    """
    return rows.groupBy(F.col(SOURCE).alias("file"), DS, F.col(REASON).isNotNull().alias("is_quarantined")).agg(
        F.count("*").alias("rows"),
        F.sum(F.shiftright(HASH, 32)).alias("high"),
        F.sum(F.col(HASH).bitwiseAND(F.lit(2**32 - 1))).alias("low"),
        F.bit_xor(F.xxhash64(HASH, F.lit(1))).alias("xor"),
    )

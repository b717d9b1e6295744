"""Fingerprints of the rows of each log file and day, which do not depend on the order of the rows."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.raw.joins.outcomes import OUTCOME
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE
from jobs.raw.rows import DS

HASH = "_hash"


def with_hashes(rows: DataFrame) -> DataFrame:
    """Adds HASH, over all values of a row but its file, and empties the RAW of usable rows, half of a row's size.

    rows: as from jobs.raw.rows.read_rows. The day is in the hash through the time. An outcome keeps its RAW: it is
    quarantined if it belongs to no exposure.
    """
    names = [name for name in rows.columns if name not in (DS, SOURCE)]
    types = ",".join(dtype for name, dtype in rows.dtypes if name in names)
    values = [F.col(name) for name in names]
    # Spark's hash skips nulls and takes 0 and false for the same: positions of nulls and types are hashed as well.
    row_hash = F.xxhash64(F.lit(types), *values, *(value.isNull() for value in values))
    keeps_raw = F.col(REASON).isNotNull() | _is_outcome(rows)
    return rows.withColumn(HASH, row_hash).withColumn(RAW, F.when(keeps_raw, F.col(RAW)))


def fingerprints_by_file(rows: DataFrame) -> DataFrame:
    """The number of rows of each file and day, by kind, and two sums over their hashes.

    Columns: file, ds, is_quarantined, is_outcome, rows, high, low, xor. A row that occurs twice cancels out in an
    exclusive or but not in a sum. The sum is high * 2**32 + low, since it does not fit into 64 bits.
    """
    is_quarantined = F.col(REASON).isNotNull()
    kind = (is_quarantined.alias("is_quarantined"), (~is_quarantined & _is_outcome(rows)).alias("is_outcome"))
    return rows.groupBy(F.col(SOURCE).alias("file"), DS, *kind).agg(
        F.count("*").alias("rows"),
        F.sum(F.shiftright(HASH, 32)).alias("high"),
        F.sum(F.col(HASH).bitwiseAND(F.lit(2**32 - 1))).alias("low"),
        F.bit_xor(F.xxhash64(HASH, F.lit(1))).alias("xor"),
    )


def _is_outcome(rows: DataFrame) -> Column:
    return F.col(OUTCOME).isNotNull() if OUTCOME in rows.columns else F.lit(False)

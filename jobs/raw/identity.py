"""Hashes that serve as identities: of an exposure, of a row of an outcome, of the values that two rows share."""

from collections.abc import Iterable

from pyspark.sql import Column
from pyspark.sql import functions as F

from schemas.dataset import RawColumn


def identity(columns: Iterable[tuple[Column, RawColumn]], name: str = "") -> Column:
    """A 64-bit hash of values with their positions. name: hashed first.

    Spark's hash skips nulls, so (7, null) and (null, 7) would be equal. Each value that may be null is therefore
    followed by its type or by `null`; the type of any other value follows from its position.
    """
    parts = [F.lit(name)] if name else []
    for value, column in columns:
        parts.append(value)
        if column.nullable:
            parts.append(F.when(value.isNull(), F.lit("null")).otherwise(F.lit(column.dtype)))
    return F.xxhash64(*parts)

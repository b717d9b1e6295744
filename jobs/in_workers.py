"""Tables that Spark's workers compute, as columns of Arrow, from rows that Spark has brought together and in order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType


@dataclass(frozen=True)
class InWorkers:
    """rows: to compute from. key: the column whose equal values belong together, for example the user. order: of the
    rows of one worker. compute: tables of the columns `ddl` from their batches."""

    rows: DataFrame
    key: str
    order: tuple[str | Column, ...]
    compute: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.Table]]
    ddl: str

    def frame(self) -> DataFrame:
        """What is computed, for Spark to go on with."""
        return self.consumed(_as_batches, self.ddl)

    def consumed(
        self,
        consume: Callable[[Iterator[pa.Table]], Iterator[pa.RecordBatch]],
        ddl: str,
        parts: int | None = None,
    ) -> DataFrame:
        """What `consume` makes, in the workers, of what is computed from each part of the rows. ddl: its columns.

        parts: how many; then a key is in the same one whatever the parallelism.
        """
        compute = self.compute

        def batches(rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return consume(compute(rows))

        together = self.rows.repartition(parts, self.key) if parts else self.rows.repartition(self.key)
        return together.sortWithinPartitions(*self.order).mapInArrow(batches, ddl)


def arrow_schema(ddl: str) -> pa.Schema:
    """Of columns in Spark's DDL."""
    return to_arrow_schema(StructType.fromDDL(ddl), timezone="UTC")


def as_tables(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows as they are."""
    for batch in batches:
        yield pa.Table.from_batches([batch])


def _as_batches(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
    for rows in tables:
        yield from rows.to_batches()

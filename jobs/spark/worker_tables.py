"""Tables that Spark's workers compute, as columns of Arrow, from rows that Spark has brought together and in order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark import InheritableThread
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from jobs.spark.progress import doing


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


@contextmanager
def starting_workers(spark: SparkSession) -> Iterator[None]:
    """Python workers take seconds to start and to load Arrow: they do so while a long plan is made."""

    def start() -> None:
        # What is wrong with them, the first job that needs one will say.
        with suppress(Py4JError, PySparkException):
            doing(spark, "starting workers")
            parts = spark.sparkContext.defaultParallelism
            spark.range(parts, numPartitions=parts).mapInArrow(_loaded, "id bigint").collect()

    thread = InheritableThread(target=start, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _loaded(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    import pyarrow.compute
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401

    yield from batches


def _as_batches(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
    for rows in tables:
        yield from rows.to_batches()

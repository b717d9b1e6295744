"""Tables that Spark's workers compute, as columns of Arrow, from rows that Spark has brought together and sorted."""

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

from jobs.spark.progress import describe_job


@dataclass(frozen=True)
class WorkerTable:
    """A table that is computed in the workers, when it is written or read.

    rows: what it is computed from. key: the column whose equal values must meet in one worker, for example the user.
    order: sorts the rows of each worker. compute: turns a worker's sorted rows into tables with the columns `ddl`.
    """

    rows: DataFrame
    key: str
    order: tuple[str | Column, ...]
    compute: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.Table]]
    ddl: str

    def to_dataframe(self) -> DataFrame:
        """The computed rows as a DataFrame."""
        return self.apply(_to_batches, self.ddl)

    def apply(
        self,
        function: Callable[[Iterator[pa.Table]], Iterator[pa.RecordBatch]],
        ddl: str,
        partitions: int | None = None,
    ) -> DataFrame:
        """The rows that `function` returns in each worker for the tables computed there. ddl: their columns.

        partitions: how many; a key is then in the same one whatever the parallelism. None: Spark chooses.
        """
        compute = self.compute

        def apply_to_rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return function(compute(batches))

        by_key = self.rows.repartition(partitions, self.key) if partitions else self.rows.repartition(self.key)
        return by_key.sortWithinPartitions(*self.order).mapInArrow(apply_to_rows, ddl)


def arrow_schema(ddl: str) -> pa.Schema:
    """The Arrow schema of columns in Spark's DDL."""
    return to_arrow_schema(StructType.fromDDL(ddl), timezone="UTC")


def as_tables(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The batches as tables, for a WorkerTable that passes its rows on unchanged."""
    for batch in batches:
        yield pa.Table.from_batches([batch])


@contextmanager
def starting_workers(spark: SparkSession) -> Iterator[None]:
    """Start Python workers in the background while the block runs.

    They take seconds to start and to load Arrow and DuckDB, during which the driver can plan its first job.
    """

    def start() -> None:
        # If the workers are broken, the first job that needs one fails with the reason.
        with suppress(Py4JError, PySparkException):
            describe_job(spark, "starting workers")
            workers = spark.sparkContext.defaultParallelism
            spark.sparkContext.parallelize(range(workers), workers).foreachPartition(_load_libraries)

    thread = InheritableThread(target=start, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _load_libraries(_: Iterator[int]) -> None:
    import duckdb  # noqa: F401
    import pyarrow.compute
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401


def _to_batches(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
    for table in tables:
        yield from table.to_batches()

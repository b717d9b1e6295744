"""Read and write tables of the lake through their contracts, one atomic partition a day."""

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession

from jobs.spark.day_files import DayFiles
from jobs.spark.progress import doing
from jobs.spark.worker_tables import InWorkers, arrow_schema
from lakehouse.code_version import code_version
from lakehouse.lake import Lake, dataset_name
from lakehouse.manifest import Manifest
from lakehouse.staging import staging_folder
from schemas.contract import Table
from schemas.dataset import Dataset

# A day's rows always lie in this many files, cut by user: the same files whatever the parallelism, so that
# equal content has an equal fingerprint, and enough of them for a cluster to write side by side.
FILES_PER_DAY = 8
ROWS_AT_ONCE = 1_024  # with lists: a window of 20 steps has some kilobytes
# A worker holds up to 50 MB of each day that it writes, and 256 MB beside (DayFiles): 1.9 GB for a month and the
# undated rows.
DAYS_AT_ONCE = 32


def some_days_at_once(days: Sequence[str]) -> list[Sequence[str]]:
    """The days in their order, cut into runs of so few that the workers can write each run in one go."""
    return [days[start : start + DAYS_AT_ONCE] for start in range(0, len(days), DAYS_AT_ONCE)]


def read_days(spark: SparkSession, lake: Lake, table: Table, dataset: Dataset | str, days: Iterable[str]) -> DataFrame:
    """The published rows of these days, with the column ds; a UserError where a day is missing."""
    days = list(days)
    for day in days:
        lake[table.name, dataset, day].require()
    return read_published(spark, lake, table, dataset, days)


def read_published(
    spark: SparkSession, lake: Lake, table: Table, dataset: Dataset | str, days: Sequence[str]
) -> DataFrame:
    """The same whatever their audits say: not to build on, but to publish again."""
    if not days:
        return spark.createDataFrame([], f"{table.ddl}, ds string")
    return (
        spark.read.schema(f"{table.ddl}, ds string")
        .option("basePath", str(lake.table(table.name, dataset).resolve()))
        .parquet(*(str(lake[table.name, dataset, day].path.resolve()) for day in days))
    )


def publish_days(
    spark: SparkSession,
    rows: InWorkers,
    lake: Lake,
    table: Table,
    dataset: Dataset | str,
    days: Sequence[str],
    *,
    inputs: Callable[[str], Mapping[str, str]],
    counts: Callable[[str, int], Mapping[str, int]] = lambda *_: {},
    spec_version: str | None = None,
) -> dict[str, Manifest]:
    """Write `rows` (contract columns plus ds) and publish each of `days`; a day without rows is empty, not absent.

    ValueError, and nothing published, where a row belongs to none of these days: it would be lost. counts: what the
    manifest of a day with so many rows counts beside them.

    The workers that compute the rows write them, too: back in Java, nested lists take several times as long to write as
    they took to compute.
    """
    doing(spark, f"writing {table.name}")
    # A row group is held in memory: rows with lists are large.
    at_once = ROWS_AT_ONCE if any("<" in column.dtype for column in table.columns) else 16 * ROWS_AT_ONCE
    with staging_folder(lake) as staging:
        written, names, schema = staging.resolve() / "written", table.column_names, arrow_schema(table.ddl)
        written.mkdir()

        def write(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
            # In a folder of its own: a task may be tried again, and only the files that it tells of count. By number
            # first: who reads a partition reads its files in order of their names.
            part = TaskContext().partitionId()
            with DayFiles(written / f"{part:03}-{uuid.uuid4().hex}", at_once) as files:
                for found in tables:
                    # What Spark knows of nulls depends on where rows come from, and has a say in how they are written.
                    files.add(found.select(names).cast(schema), found.column("ds"))
                for day, file in files.files():
                    yield pa.RecordBatch.from_pydict({"ds": [day], "file": [str(file)]})

        told = rows.consumed(write, "ds string, file string", FILES_PER_DAY).collect()
        files = [(row.ds, Path(row.file)) for row in told]
        if stray := sorted({str(day) for day, _ in files} - set(days)):
            raise ValueError(
                f"{table.name} of {dataset_name(dataset)}: rows of {', '.join(stray[:3])} have no day to go to"
            )
        published, code = {}, code_version("jobs")
        for day in days:
            staged = staging / day
            staged.mkdir()
            for number, file in enumerate(sorted(file for of_day, file in files if of_day == day)):
                shutil.move(file, staged / f"part-{number}.parquet")
            if not any(staged.iterdir()):
                pq.write_table(schema.empty_table(), staged / "part-0.parquet")
            count = sum(pq.read_metadata(file).num_rows for file in staged.iterdir())
            published[day] = lake[table.name, dataset, day].publish(
                staged, rows=count, inputs=inputs(day), counts=counts(day, count), code=code, spec_version=spec_version
            )
    return published

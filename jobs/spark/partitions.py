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
from jobs.spark.progress import describe_job
from jobs.spark.worker_tables import WorkerTable, arrow_schema
from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.staging import staging_folder
from schemas.contract import Table
from schemas.dataset import Dataset

# Rows of a day are always in this many files, split by user: the same files whatever the parallelism, so that equal
# content has an equal fingerprint, and enough of them for a cluster to write in parallel.
FILES_PER_DAY = 8
# A row group is buffered in memory, and a row with lists is large: a window of 20 steps takes several kilobytes.
ROWS_PER_GROUP, ROWS_PER_GROUP_WITH_LISTS = 16_384, 1_024
# A worker buffers up to 50 MB of each day that it writes, and 256 MB more (DayFiles): 1.9 GB for a month and the rows
# without a day.
DAYS_PER_WRITE = 32


def day_chunks(days: Sequence[str]) -> list[Sequence[str]]:
    """The days in their order, in chunks of at most DAYS_PER_WRITE, each small enough for one call of publish_days."""
    return [days[start : start + DAYS_PER_WRITE] for start in range(0, len(days), DAYS_PER_WRITE)]


def read_days(spark: SparkSession, lake: Lake, table: Table, dataset: Dataset, days: Iterable[str]) -> DataFrame:
    """The published rows of these days, with the column ds.

    Raises UserError for a day that is not published or whose audit failed.
    """
    days = list(days)
    for day in days:
        lake[table.name, dataset, day].require()
    return read_published(spark, lake, table, dataset, days)


def read_published(spark: SparkSession, lake: Lake, table: Table, dataset: Dataset, days: Sequence[str]) -> DataFrame:
    """The published rows of these days, with the column ds, whatever their audits found.

    For rows that are published again; to build other tables, use read_days.
    """
    if not days:
        return spark.createDataFrame([], f"{table.ddl}, ds string")
    return (
        spark.read.schema(f"{table.ddl}, ds string")
        .option("basePath", str(lake.table(table.name, dataset).resolve()))
        .parquet(*(str(lake[table.name, dataset, day].path.resolve()) for day in days))
    )


def publish_days(
    spark: SparkSession,
    rows: WorkerTable,
    lake: Lake,
    table: Table,
    dataset: Dataset,
    days: Sequence[str],
    *,
    inputs: Callable[[str], Mapping[str, str]],
    counts: Callable[[str, int], Mapping[str, int]] = lambda day, rows: {},
    spec_version: str | None = None,
) -> dict[str, Manifest]:
    """Write `rows` (contract columns plus ds) and publish each of `days`; a day without rows is an empty partition.

    inputs: a day's inputs, for its manifest. counts: further counts for the manifest, from the day and
    its number of rows.

    Raises ValueError, and publishes nothing, if a row belongs to none of the days: it would be lost.
    """
    describe_job(spark, f"writing {table.name}")
    with staging_folder(lake) as staging:
        written = staging.resolve() / "written"
        written.mkdir()
        files = _write_in_workers(rows, table, written)
        if stray := sorted(files.keys() - set(days)):
            raise ValueError(f"{table.name} of {dataset.name}: rows of {', '.join(stray[:3])} have no day to go to")
        published, code = {}, code_version("jobs")
        for day in days:
            staged = staging / day
            row_count = _stage_day(staged, files.get(day, []), table)
            published[day] = lake[table.name, dataset, day].publish(
                staged, rows=row_count, inputs=inputs(day), counts=counts(day, row_count), code=code,
                spec_version=spec_version,
            )  # fmt: skip
    return published


def _write_in_workers(rows: WorkerTable, table: Table, folder: Path) -> dict[str, list[Path]]:
    """Write the rows to files below the folder; returns each day's files in the order of their rows.

    The workers that compute the rows write them as well: back in Java, nested lists take several times as long to write
    as they took to compute.
    """
    has_lists = any("<" in column.dtype for column in table.columns)
    rows_per_group = ROWS_PER_GROUP_WITH_LISTS if has_lists else ROWS_PER_GROUP
    names, schema = table.column_names, arrow_schema(table.ddl)

    def write(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        # A folder for each attempt: Spark may run a task again, and only the files of the attempt that succeeds are
        # returned. Its name begins with the partition's number: readers take files in the order of their names.
        partition = TaskContext().partitionId()
        with DayFiles(folder / f"{partition:03}-{uuid.uuid4().hex}", rows_per_group) as day_files:
            for computed in tables:
                # Without the cast, whether Spark thinks that a column has nulls would change the bytes.
                day_files.add(computed.select(names).cast(schema), computed.column("ds"))
            for day, file in day_files.finish():
                yield pa.RecordBatch.from_pydict({"ds": [day], "file": [str(file)]})

    files: dict[str, list[Path]] = {}
    for row in rows.apply(write, "ds string, file string", FILES_PER_DAY).collect():
        files.setdefault(str(row.ds), []).append(Path(row.file))
    return {day: sorted(paths) for day, paths in files.items()}


def _stage_day(staged: Path, files: Sequence[Path], table: Table) -> int:
    """Move a day's files into a new folder, under the names they have in the lake; returns the number of rows."""
    staged.mkdir()
    for number, file in enumerate(files):
        shutil.move(file, staged / f"part-{number}.parquet")
    if not files:
        pq.write_table(arrow_schema(table.ddl).empty_table(), staged / "part-0.parquet")
    return sum(pq.read_metadata(file).num_rows for file in staged.iterdir())

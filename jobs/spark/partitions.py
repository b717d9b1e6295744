"""Read and write tables of the lake through their contracts, the days of a call in one commit."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession

from jobs.spark.day_files import DayFiles
from jobs.spark.progress import describe_job
from jobs.spark.worker_tables import WorkerTable, arrow_schema
from lakehouse.arrow_types import in_schema, stored_schema
from lakehouse.code_version import code_version
from lakehouse.lake import DS, Lake, NewDay
from lakehouse.lake import publish_days as commit_days
from lakehouse.manifest import Manifest
from lakehouse.storage.data_files import local_file, open_parquet, store_file, store_table
from lakehouse.storage.delta_table import DataFile, FilesByValue, Replaced
from lakehouse.storage.files import is_local
from lakehouse.storage.scratch import work_folder
from lakehouse.storage.store_path import located
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
    ddl = f"{table.ddl}, {DS} string"
    folder = lake.table(table.name, dataset)
    files = [file for day in days for file in lake[table.name, dataset, day].data_files()]
    if not files:
        return spark.createDataFrame([], ddl)
    if is_local(folder):
        names = (str(local_file(folder, file)) for file in files)
        return spark.read.schema(ddl).option("basePath", str(folder)).parquet(*names)
    return _read_in_workers(spark, str(folder), files, table, ddl)


def _read_in_workers(spark: SparkSession, folder: str, files: Sequence[DataFile], table: Table, ddl: str) -> DataFrame:
    """The rows of files in an object store. The workers fetch them, since Spark has no reader for most stores."""
    names, schema = table.column_names, arrow_schema(ddl)

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for path, size in zip(batch.column("path").to_pylist(), batch.column("size").to_pylist(), strict=True):
                day = path.partition("/")[0].removeprefix(f"{DS}=")
                with open_parquet(local_file(located(folder), DataFile(path, size, 0))) as file:
                    for rows in file.iter_batches(ROWS_PER_GROUP_WITH_LISTS, columns=names):
                        dated = pa.Table.from_batches([rows]).append_column(DS, pa.repeat(day, len(rows)))
                        yield from in_schema(dated, schema).to_batches()

    listed = spark.createDataFrame([(file.path, file.size) for file in files], "path string, size bigint")
    return listed.repartition(min(len(files), spark.sparkContext.defaultParallelism * 4)).mapInArrow(read, ddl)


def publish_days(
    spark: SparkSession,
    rows: WorkerTable,
    lake: Lake,
    table: Table,
    dataset: Dataset,
    days: Sequence[str],
    *,
    inputs: Callable[[str], Mapping[str, str]],
    replaces: FilesByValue,
    counts: Callable[[str, int], Mapping[str, int]] = lambda day, rows: {},
) -> dict[str, Manifest]:
    """Write `rows` (contract columns plus ds) and publish `days` in one commit; a day without rows is published empty.

    inputs: a day's inputs, for its manifest. replaces: the days' files when the build began (Lake.present); a day that
    another run has published since is not changed, and a line tells so. counts: further counts for the manifest, from
    the day and its number of rows.

    Raises ValueError, and publishes nothing, if a row belongs to none of the days: it would be lost.
    """
    describe_job(spark, f"writing {table.name}")
    files = _write_in_workers(rows, table, lake.table(table.name, dataset))
    return commit_built_days(lake, table, dataset, days, files, inputs=inputs, replaces=replaces, counts=counts)


def commit_built_days(
    lake: Lake,
    table: Table,
    dataset: Dataset,
    days: Sequence[str],
    stored: FilesByValue,
    *,
    inputs: Callable[[str], Mapping[str, str]],
    replaces: FilesByValue,
    counts: Callable[[str, int], Mapping[str, int]] = lambda day, rows: {},
) -> dict[str, Manifest]:
    """Publish days whose files the workers have stored: see publish_days. stored: the files of each day with rows."""
    folder, files = lake.table(table.name, dataset), dict(stored)
    if stray := sorted(files.keys() - set(days)):
        raise ValueError(f"{table.name} of {dataset.name}: rows of {', '.join(stray[:3])} have no day to go to")
    schema = stored_schema(table)
    for day in set(days) - files.keys():
        files[day] = (store_table(folder, f"{DS}={day}", schema.empty_table()),)
    new_days = {
        day: NewDay(files[day], inputs(day), counts(day, sum(file.rows for file in files[day]))) for day in days
    }
    return _commit(lake, table, dataset, new_days, replaces)


def _commit(
    lake: Lake, table: Table, dataset: Dataset, new_days: dict[str, NewDay], replaces: FilesByValue
) -> dict[str, Manifest]:
    """Commit the days that no other run has published in the meantime; returns the present manifests of all days."""
    published: dict[str, Manifest] = {}
    while new_days:
        try:
            published |= commit_days(
                lake, table.name, dataset.name, new_days, stored_schema(table), code=code_version("jobs"),
                expected={day: replaces[day] for day in new_days},
            )  # fmt: skip
            break
        except Replaced as error:
            days = ", ".join(error.values)
            print(f"note: another run has published {table.name} of {dataset.name} on {days}: its result stays")
            present = lake.manifests(dataset, [table.name])[table.name]
            published |= {day: present[day] for day in error.values if day in present}
            new_days = {day: new for day, new in new_days.items() if day not in error.values}
    return published


def _write_in_workers(rows: WorkerTable, table: Table, folder: Path) -> dict[str, tuple[DataFile, ...]]:
    """Write the rows to files in the table's folder; returns each day's files in the order of their rows.

    The workers that compute the rows write and store them as well: back in Java, nested lists take several times as
    long to write as they took to compute.
    """
    has_lists = any("<" in column.dtype for column in table.columns)
    rows_per_group = ROWS_PER_GROUP_WITH_LISTS if has_lists else ROWS_PER_GROUP
    names, schema, location = table.column_names, stored_schema(table), str(folder)

    def write(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
        # Spark may run a task again, also at the same time. Both attempts store the same content under the same names.
        part = f"part-{TaskContext().partitionId()}"
        with work_folder() as work, DayFiles(work, rows_per_group) as day_files:
            for computed in tables:
                # Without the cast, whether Spark thinks that a column has nulls would change the bytes.
                day_files.add(computed.select(names).cast(schema), computed.column(DS))
            for day, file in day_files.finish():
                stored = store_file(located(location), f"{DS}={day}", file.rename(work / f"{part}.parquet"))
                columns = {DS: [day], "path": [stored.path], "size": [stored.size], "rows": [stored.rows]}
                yield pa.RecordBatch.from_pydict(columns)

    files: dict[str, list[DataFile]] = {}
    written = rows.apply(write, f"{DS} string, path string, size bigint, rows bigint", FILES_PER_DAY)
    for row in written.collect():
        files.setdefault(str(row.ds), []).append(DataFile(row.path, row.size, row["rows"]))
    return {day: tuple(sorted(stored, key=lambda file: file.path)) for day, stored in files.items()}

"""Read and write tables of the lake through their contracts, one atomic partition a day."""

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.day_files import DayFiles, arrow_schema
from jobs.history import PerUser
from jobs.progress import doing
from schemas.contract import Table
from schemas.paths import Lake
from schemas.publishing import Manifest, code_version, publish, require_manifest, staging_folder

# A day's rows always lie in this many files, cut by user: the same files whatever the parallelism, so that
# equal content has an equal fingerprint, and enough of them for a cluster to write side by side.
FILES_PER_DAY = 8
BUCKET = "_bucket"


def read_days(spark: SparkSession, lake: Lake, table: Table, dataset: str, days: Iterable[str]) -> DataFrame:
    """The published rows of these days, with the column ds; a UserError where a day is missing."""
    days = list(days)
    for day in days:
        require_manifest(lake, table.name, dataset, day)
    if not days:
        return spark.createDataFrame([], f"{table.ddl}, ds string")
    return (
        spark.read.schema(f"{table.ddl}, ds string")
        .option("basePath", str(lake.table(table.name, dataset).resolve()))
        .parquet(*(str(lake.partition(table.name, dataset, day).resolve()) for day in days))
    )


def conform(rows: DataFrame, table: Table, *extra: str) -> DataFrame:
    """Exactly the contract's columns, in its order and types."""
    return rows.select(*(F.col(c.name).cast(c.dtype).alias(c.name) for c in table.columns), *extra)


def placed(rows: DataFrame, split_by: str) -> DataFrame:
    """The rows with their BUCKET, those of one file together."""
    bucket = F.pmod(F.xxhash64(F.col(split_by).cast("string")), F.lit(FILES_PER_DAY)).cast("int")
    parts = int(rows.sparkSession.conf.get("spark.sql.shuffle.partitions") or 8)
    return rows.withColumn(BUCKET, bucket).repartition(max(parts, FILES_PER_DAY), "ds", BUCKET)


def publish_days(
    rows: DataFrame,
    lake: Lake,
    table: Table,
    dataset: str,
    days: Sequence[str],
    *,
    split_by: str,
    order_by: Sequence[str],
    inputs: Callable[[str], Mapping[str, str]],
    counts: Callable[[str, int], Mapping[str, int]] = lambda *_: {},
    spec_version: str | None = None,
) -> dict[str, Manifest]:
    """Write `rows` (contract columns plus ds) and publish each of `days`; a day without rows is empty, not absent.

    ValueError, and nothing published, where a row belongs to none of these days: it would be lost.
    split_by: column that decides a row's file (rows of `placed` lie there already). order_by: the total order within
    a file. counts: what the manifest of a day with so many rows counts beside them.
    """
    if BUCKET not in rows.columns:
        rows = placed(rows, split_by)
    doing(rows.sparkSession, f"writing {table.name}")
    with staging_folder(lake) as staging:
        written = staging / "written"
        (
            conform(rows, table, "ds", BUCKET)
            .sortWithinPartitions("ds", BUCKET, *order_by)
            .write.partitionBy("ds", BUCKET)
            .parquet(str(written))
        )
        files = [(file.parts[-3].removeprefix("ds="), file) for file in written.glob(f"ds=*/{BUCKET}=*/*.parquet")]
        return _published(
            files, staging, lake, table, dataset, days, inputs=inputs, counts=counts, spec_version=spec_version
        )


def publish_users(
    spark: SparkSession,
    rows: PerUser,
    lake: Lake,
    table: Table,
    dataset: str,
    days: Sequence[str],
    *,
    inputs: Callable[[str], Mapping[str, str]],
    counts: Callable[[str, int], Mapping[str, int]] = lambda *_: {},
    spec_version: str | None = None,
) -> dict[str, Manifest]:
    """Publish each of `days` as `publish_days` does; rows: contract columns plus ds, in the table's order.

    The workers that compute the rows write them, too: back to Java, sorted and written there, nested lists take several
    times as long as they took to compute.
    """
    doing(spark, f"writing {table.name}")
    with staging_folder(lake) as staging:
        written, names = staging.resolve() / "written", table.column_names

        def write(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
            # In a folder of its own: a task may be tried again, and only the files that it tells of count.
            with DayFiles(written / uuid.uuid4().hex) as files:
                for found in tables:
                    files.add(found.select(names), found.column("ds"))
                for day, file in files.files():
                    yield pa.RecordBatch.from_pydict({"ds": [day], "file": [str(file)]})

        told = rows.consumed(write, "ds string, file string", FILES_PER_DAY).collect()
        files = [(row.ds, Path(row.file)) for row in told]
        return _published(
            files, staging, lake, table, dataset, days, inputs=inputs, counts=counts, spec_version=spec_version
        )


def _published(
    files: Sequence[tuple[str, Path]],
    staging: Path,
    lake: Lake,
    table: Table,
    dataset: str,
    days: Sequence[str],
    *,
    inputs: Callable[[str], Mapping[str, str]],
    counts: Callable[[str, int], Mapping[str, int]] = lambda *_: {},
    spec_version: str | None = None,
) -> dict[str, Manifest]:
    """The days' partitions, of these files with their days."""
    if stray := sorted({f"ds={day}" for day, _ in files} - {f"ds={day}" for day in days}):
        raise ValueError(f"{table.name} of {dataset}: rows of {', '.join(stray[:3])} have no day to go to")
    published, code = {}, code_version("jobs")
    for day in days:
        staged = staging / day
        staged.mkdir()
        for number, file in enumerate(sorted(file for of_day, file in files if of_day == day)):
            shutil.move(file, staged / f"part-{number}.parquet")
        if not any(staged.iterdir()):
            pq.write_table(arrow_schema(table.ddl).empty_table(), staged / "part-0.parquet")
        count = sum(pq.read_metadata(file).num_rows for file in staged.iterdir())
        published[day] = publish(
            lake, table.name, dataset, day, staged, rows=count,
            inputs=inputs(day), counts=counts(day, count), code=code, spec_version=spec_version,
        )  # fmt: skip
    return published

"""Read and write tables of the lake through their contracts, one atomic partition a day."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from jobs.progress import doing
from schemas.contract import Table
from schemas.paths import Lake
from schemas.publishing import Manifest, code_version, publish, require_manifest, staging_folder

# A day's rows always lie in this many files, cut by user: the same files whatever the parallelism, so that
# equal content has an equal fingerprint, and enough of them for a cluster to write side by side.
FILES_PER_DAY = 4
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
    published, code = {}, code_version("jobs")
    doing(rows.sparkSession, f"writing {table.name}")
    with staging_folder(lake) as staging:
        written = staging / "written"
        (
            conform(rows, table, "ds", BUCKET)
            .sortWithinPartitions("ds", BUCKET, *order_by)
            .write.partitionBy("ds", BUCKET)
            .parquet(str(written))
        )
        if stray := {folder.name for folder in written.glob("ds=*")} - {f"ds={day}" for day in days}:
            raise ValueError(f"{table.name} of {dataset}: rows of {', '.join(sorted(stray)[:3])} have no day to go to")
        for day in days:
            staged = staging / day
            staged.mkdir()
            for bucket_folder in sorted((written / f"ds={day}").glob(f"{BUCKET}=*")):
                for file in bucket_folder.glob("*.parquet"):
                    shutil.move(file, staged / f"{bucket_folder.name.removeprefix(f'{BUCKET}=')}-{file.name}")
            files = list(staged.iterdir())
            if not files:
                pq.write_table(_no_rows(table), staged / "0-empty.parquet")
            count = sum(pq.read_metadata(f).num_rows for f in files)
            published[day] = publish(
                lake, table.name, dataset, day, staged, rows=count,
                inputs=inputs(day), counts=counts(day, count), code=code, spec_version=spec_version,
            )  # fmt: skip
    return published


def _no_rows(table: Table) -> pa.Table:
    """The contract's columns. Spark would take seconds for an empty file, and a day without refused rows is usual."""
    return to_arrow_schema(StructType.fromDDL(table.ddl), timezone="UTC").empty_table()

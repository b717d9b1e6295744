"""Raw rows -> exposures, duplicates and refused rows. Nothing is dropped: every row has one fate."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.raw.lines import SOURCE, typed
from jobs.spark.worker_tables import WorkerTable, as_tables
from schemas.dataset import Dataset, Lookup
from schemas.errors import UserError
from schemas.steps import LATEST_EXPOSED_AT_MS
from schemas.tables.exposures import exposures as exposures_table
from schemas.tables.quarantine import QUARANTINE_TABLE

REASON, RAW, HASH, DS = "_reason", "_raw", "_hash", "ds"

_SAME = ("user_id", "exposed_at_ms", "exposure_id")  # the time is part of what the id is made of: it parts no copies
_WHY = "_why"
LARGEST_COST = 1_000_000_000  # sums of costs are kept in whole billionths, as 64-bit integers


def with_reason(spark: SparkSession, dataset: Dataset, raw: Mapping[str, DataFrame]) -> DataFrame:
    """Every log row, and why it is refused, if it is.

    Needs: `raw` by view name, as read by read_raw. Returns the columns of `exposures` (of a refused row only
    exposure_id is sure to be filled), ds (the dataset's own calendar day; null where the time cannot be read),
    REASON (refused rows), RAW (the row's text), SOURCE.
    """
    log = typed(raw["log"], dataset.log).alias("log")
    reasons = [F.col("log._reason")]
    for lookup in dataset.lookups:
        view = lookup.file.view
        side = _lookup_rows(spark, raw[view], lookup).alias(view)
        log = log.join(side, F.col(f"log.{lookup.log_key}") == F.col(f"{view}.{lookup.key}"), "left")
        reasons.append(F.when(F.col(f"{view}.{lookup.key}").isNull(), f"unknown {lookup.noun}"))
        reasons.append(F.concat(F.lit(f"the {lookup.noun}'s own row: "), F.col(f"{view}._reason")))
    reasons += [F.when(F.expr(refusal.spark_sql), refusal.reason) for refusal in dataset.refusals]
    # Whatever the contract forgets: without a day a row would be lost, without a sane cost it would stop the job.
    exposed_at_ms = F.expr(dataset.exposed_at_ms)
    in_calendar = exposed_at_ms.between(0, LATEST_EXPOSED_AT_MS)
    reasons.append(_unless(in_calendar, "the time cannot be read"))
    reasons.append(_unless(F.expr(dataset.cost).between(0, LARGEST_COST), f"cost is not from 0 to {LARGEST_COST:,}"))

    local = F.from_utc_timestamp(F.timestamp_millis(exposed_at_ms), dataset.timezone)
    return log.select("*", F.coalesce(*reasons).alias(_WHY)).select(
        *_exposure_columns(dataset),
        F.when(in_calendar, F.date_format(local, "yyyy-MM-dd")).alias(DS),
        F.col(_WHY).alias(REASON),
        F.col("log._raw").alias(RAW),
        F.col(f"log.{SOURCE}").alias(SOURCE),
    )


def kept(rows: DataFrame, dataset: Dataset, published: DataFrame | None = None) -> WorkerTable:
    """The table `exposures`, plus ds: of rows of with_reason that are not refused, one of each exposure's copies.

    published: more of the table, as it lies in the lake.
    """
    table = exposures_table(dataset)
    usable = rows.where(F.col(REASON).isNull()).select(
        *(F.col(c.name).cast(c.dtype).alias(c.name) for c in table.columns), DS
    )
    if published is not None:
        usable = usable.unionByName(published)
    return WorkerTable(usable, "user_id", copies_together(dataset), without_copies, f"{table.ddl}, {DS} string")


def refused(rows: DataFrame, published: DataFrame | None = None) -> WorkerTable:
    """The table `quarantine`, plus ds: of rows of with_reason. published: more of the table."""
    found = rows.where(F.col(REASON).isNotNull()).select(
        F.col(SOURCE).alias("source_file"), F.col(RAW).alias("raw"), F.col(REASON).alias("reason"), DS
    )
    if published is not None:
        found = found.unionByName(published)
    return WorkerTable(
        found, "raw", ("raw", "source_file", "reason"), as_tables, f"{QUARANTINE_TABLE.ddl}, {DS} string"
    )


def copies_together(dataset: Dataset) -> tuple[Column, ...]:
    """The order of the table `exposures`, and of copies: the one that stays comes first."""
    same = [F.col(name) for name in _SAME]
    # The copy that stays is the one that knows of most late gains, so that a row that is delivered again with its
    # conversion replaces the first; then the one with the largest values, so that a rerun keeps the same.
    late = [F.col(gain).desc_nulls_last() for gain in dataset.late_gains]
    values = [F.col(column.name).desc_nulls_last() for column in exposures_table(dataset).columns]
    return (*same, *late, *values)


def without_copies(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Rows in the order of copies_together: the first of each exposure. Copies have one time, and so one day."""
    above: pa.RecordBatch | None = None
    for batch in filter(len, batches):
        # An exposure has all three: a null in one of them would have been a reason to refuse the row.
        is_first = np.full(len(batch), False)
        for name in _SAME:
            here = batch.column(name)
            is_first[1:] |= pc.not_equal(here[1:], here[:-1]).to_numpy(zero_copy_only=False)
            is_first[0] |= above is None or above.column(name)[0] != here[0]
        yield pa.Table.from_batches([batch.filter(pa.array(is_first))])
        above = batch.slice(len(batch) - 1)


def to_keep(rows: DataFrame) -> DataFrame:
    """What of with_reason's rows is worth keeping: adds HASH, over all that the row has, and empties the RAW of rows
    that are not refused, half of what a row weighs."""
    values = [F.col(name) for name in rows.columns if name not in (DS, SOURCE)]
    # Spark's hash passes over nulls, so a value that moved to the next column would go unseen.
    hashed = F.xxhash64(*values, *(value.isNull() for value in values))
    return rows.withColumn(HASH, hashed).withColumn(RAW, F.when(F.col(REASON).isNotNull(), F.col(RAW)))


def rows_by_file(rows: DataFrame) -> DataFrame:
    """Aggregate of to_keep's rows: file, ds, refused, rows, and two sums in which no order counts.

    Two independent hashes: a row that is there twice would cancel out in an exclusive or, and still counts in the sum,
    which is given in two halves, `high` times 2**32 plus `low`: whole, it would not fit into 64 bits.
    """
    return rows.groupBy(F.col(SOURCE).alias("file"), DS, F.col(REASON).isNotNull().alias("refused")).agg(
        F.count("*").alias("rows"),
        F.sum(F.shiftright(HASH, 32)).alias("high"),
        F.sum(F.col(HASH).bitwiseAND(F.lit(2**32 - 1))).alias("low"),
        F.bit_xor(F.xxhash64(HASH, F.lit(1))).alias("xor"),
    )


def _unless(holds: Column, reason: str) -> Column:
    """The reason where the condition is false or null."""
    return F.when(~F.coalesce(holds, F.lit(False)), reason)


def _exposure_columns(dataset: Dataset) -> list[Column]:
    sql = {d.column.name: d.spark_sql for d in (dataset.user_id, *dataset.columns)} | {
        "exposure_id": f"xxhash64('{dataset.name}', {', '.join(f'log.`{c}`' for c in dataset.log_key)})",
        "exposed_at_ms": dataset.exposed_at_ms,
        "channel": dataset.channel,
        "cost": dataset.cost,
        "propensity": dataset.propensity,
    }
    columns = {c.name: F.expr(sql[c.name]).cast(c.dtype) for c in exposures_table(dataset).columns}
    usable = F.col(_WHY).isNull()
    # The odd cell of a refused row must not stop the job; its id alone stays, which spreads such rows over the cluster.
    return [(value if name == "exposure_id" else F.when(usable, value)).alias(name) for name, value in columns.items()]


def log_span() -> tuple[Column, ...]:
    """Aggregates over all rows of with_reason: `rows`, and `first_day` and `last_day` of the rows not refused.

    A refused row may carry any time, so it has no say in how long the log is.
    """
    day = F.when(F.col(REASON).isNull(), F.col(DS))
    return F.count("*").alias("rows"), F.min(day).alias("first_day"), F.max(day).alias("last_day")


def days_of(span: Mapping[str, Any], rows: DataFrame) -> tuple[str, str]:
    """The first and the last day of the log; a UserError with the commonest reason where every row is refused."""
    if span["first_day"] is None:
        most = rows.groupBy(REASON).count().orderBy(F.desc("count"), REASON).first()
        why = f"all {span['rows']:,} are refused, most often because: {most[REASON]}" if most else "it is empty"
        raise UserError(f"the log holds no usable row: {why}; is it the right file?")
    return span["first_day"], span["last_day"]


def _lookup_rows(spark: SparkSession, raw: DataFrame, lookup: Lookup) -> DataFrame:
    rows = typed(raw, lookup.file).drop("_raw", SOURCE)
    # A key that stands twice would multiply exposures; its log rows are refused with this as the reason.
    twice = Window.partitionBy(lookup.key)
    rows = (
        rows.where(F.col(lookup.key).isNotNull())
        .withColumn("_copies", F.count("*").over(twice))
        .withColumn("_reason", F.coalesce("_reason", F.when(F.col("_copies") > 1, "it stands more than once")))
        .dropDuplicates([lookup.key])
        .drop("_copies")
    )
    return spark.sql(lookup.spark_sql, **{lookup.file.view: rows}) if lookup.spark_sql else rows

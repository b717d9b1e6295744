"""Reads a raw log into rows: each row is usable as an exposure, or has the reason why it is quarantined.

No row of the log is dropped.
"""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.raw.files import RawFiles
from jobs.raw.lines import RAW, REASON, SOURCE, read_typed_lines
from schemas.dataset import Dataset, Lookup
from schemas.errors import UserError
from schemas.steps import LATEST_EXPOSED_AT_MS
from schemas.tables.exposures import exposures

DS = "ds"
LARGEST_COST = 1_000_000_000  # sums of costs are whole billionths in 64-bit integers
_FIRST_REASON = "_first_reason"


def read_rows(spark: SparkSession, dataset: Dataset, files: Mapping[str, RawFiles]) -> DataFrame:
    """All rows of the log, joined with the lookups. files: by view name, as from find_raw_files.

    Columns: those of the table `exposures` (in a quarantined row only exposure_id is sure to be filled), DS (the day in
    the dataset's own calendar, null if the time cannot be read), REASON (null in a usable row), RAW (the row's text),
    SOURCE (the name of its file).
    """
    log = read_typed_lines(spark, files[dataset.log.view]).alias("log")
    reasons = [F.col(f"log.{REASON}")]
    for lookup in dataset.lookups:
        view = lookup.file.view
        side = _lookup_rows(spark, files[view], lookup).alias(view)
        log = log.join(side, F.col(f"log.{lookup.log_key}") == F.col(f"{view}.{lookup.key}"), "left")
        reasons.append(F.when(F.col(f"{view}.{lookup.key}").isNull(), f"unknown {lookup.noun}"))
        reasons.append(F.concat(F.lit(f"the {lookup.noun}'s own row: "), F.col(f"{view}.{REASON}")))
    reasons += [F.when(F.expr(refusal.spark_sql), refusal.reason) for refusal in dataset.refusals]
    # Two rules for every log, in addition to its contract: a row without a day would be lost, and a cost beyond the
    # limit would stop the job.
    exposed_at_ms = F.expr(dataset.exposed_at_ms)
    has_day = exposed_at_ms.between(0, LATEST_EXPOSED_AT_MS)
    reasons.append(_reason_unless(has_day, "the time cannot be read"))
    reasons.append(
        _reason_unless(F.expr(dataset.cost).between(0, LARGEST_COST), f"cost is not from 0 to {LARGEST_COST:,}")
    )

    local_time = F.from_utc_timestamp(F.timestamp_millis(exposed_at_ms), dataset.timezone)
    return log.select("*", F.coalesce(*reasons).alias(_FIRST_REASON)).select(
        *_exposure_columns(dataset),
        F.when(has_day, F.date_format(local_time, "yyyy-MM-dd")).alias(DS),
        F.col(_FIRST_REASON).alias(REASON),
        F.col(f"log.{RAW}").alias(RAW),
        F.col(f"log.{SOURCE}").alias(SOURCE),
    )


def usable_rows_by_day(rows: DataFrame) -> dict[str, int]:
    """The number of usable rows of each day. A quarantined row may have any time, so it does not count.

    Raises UserError with the most frequent reason if no row is usable.
    """
    usable = {row[DS]: row["count"] for row in rows.where(F.col(REASON).isNull()).groupBy(DS).count().collect()}
    if not usable:
        problem = "it is empty"
        reasons = rows.groupBy(REASON).count().orderBy(F.desc("count"), REASON).collect()
        if reasons:
            quarantined = sum(row["count"] for row in reasons)
            problem = f"all {quarantined:,} rows are quarantined, most often because: {reasons[0][REASON]}"
        raise UserError(f"the log has no usable row: {problem}; is it the right file?")
    return usable


def _lookup_rows(spark: SparkSession, files: RawFiles, lookup: Lookup) -> DataFrame:
    """One row per key."""
    rows = read_typed_lines(spark, files).drop(RAW, SOURCE)
    # A key with two rows would multiply exposures: the log rows with that key are quarantined instead.
    same_key = Window.partitionBy(lookup.key)
    rows = (
        rows.where(F.col(lookup.key).isNotNull())
        .withColumn("_copies", F.count("*").over(same_key))
        .withColumn(REASON, F.coalesce(REASON, F.when(F.col("_copies") > 1, "its key occurs more than once")))
        .dropDuplicates([lookup.key])
        .drop("_copies")
    )
    return spark.sql(lookup.spark_sql, **{lookup.file.view: rows}) if lookup.spark_sql else rows


def _reason_unless(condition: Column, reason: str) -> Column:
    """The reason if the condition is false or null."""
    return F.when(~F.coalesce(condition, F.lit(False)), reason)


def _exposure_columns(dataset: Dataset) -> list[Column]:
    sql = {d.column.name: d.spark_sql for d in (dataset.user_id, *dataset.columns)} | {
        "exposure_id": f"xxhash64('{dataset.name}', {', '.join(f'log.`{c}`' for c in dataset.log_key)})",
        "exposed_at_ms": dataset.exposed_at_ms,
        "channel": dataset.channel,
        "cost": dataset.cost,
        "propensity": dataset.propensity,
    }
    columns = {c.name: F.expr(sql[c.name]).cast(c.dtype) for c in exposures(dataset).columns}
    is_usable = F.col(_FIRST_REASON).isNull()
    # A broken cell of a quarantined row must not stop the job. The id of such a row is computed nevertheless: it
    # spreads these rows over the cluster.
    return [
        (value if name == "exposure_id" else F.when(is_usable, value)).alias(name) for name, value in columns.items()
    ]

"""Where a build starts: at the newest earlier journeys that are fresh, or at the first exposure."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.history.journeys import fold
from jobs.spark.partitions import read_days
from lakehouse.lake import Lake
from lakehouse.published_days import days_before, exposure_days, newest_fresh_day
from lakehouse.storage.delta_table import FilesByValue
from schemas.dataset import Dataset
from schemas.days import day_before
from schemas.tables import EXPOSURES, JOURNEYS
from schemas.tables.exposures import exposures
from schemas.tables.journeys import journeys


def newest_fresh_journeys(
    spark: SparkSession, lake: Lake, dataset: Dataset, day: str, required_code: str | None = None
) -> tuple[DataFrame | None, list[str]]:
    """The newest `journeys` before `day` that still match the exposures, and the days of exposures since then.

    As a rule their day is the day before. If that is missing or stale, it is an earlier day; if all are, there are no
    journeys, and all earlier days of exposures are returned. To fold several days together gives the same rows as
    to fold them day by day. required_code: the code version that must have built the journeys, None for any.
    """
    exposure_days = days_before(lake, dataset, day)
    journeys_day = newest_fresh_journeys_day(lake, dataset, day, required_code)
    if journeys_day is None:
        return None, exposure_days
    read = [partition.day for partition in lake[JOURNEYS, dataset, journeys_day].read_together()]
    newest = F.row_number().over(Window.partitionBy("user_id").orderBy(F.desc("ds"))) == 1
    rows = read_days(spark, lake, journeys(dataset), dataset, read).withColumn("_newest", newest)
    return rows.where("_newest").drop("ds", "_newest"), [d for d in exposure_days if d > journeys_day]


def newest_fresh_journeys_day(lake: Lake, dataset: Dataset, day: str, required_code: str | None = None) -> str | None:
    """The day of the newest `journeys` before `day` that still match the exposures; None without any."""
    return newest_fresh_day(lake, JOURNEYS, dataset, day, required_code)


@dataclass(frozen=True)
class EarlierHistory:
    """The files that a build reads, by day: of the earlier journeys it starts from, and of the exposures since then."""

    journeys: FilesByValue
    exposures: FilesByValue


def earlier_history(
    lake: Lake, dataset: Dataset, day: str, last: str, required_code: str | None = None
) -> EarlierHistory:
    """The newest fresh journeys before `day`, and the exposures since then, up to `last`.

    As a rule the journeys are of the day before. If those are missing or stale, they are of an earlier day; if all are,
    there are none, and the exposures are of all days. To fold several days together gives the same rows as to fold them
    day by day. required_code: the code version that must have built the journeys, None for any.

    Raises UserError if a day has no exposures or if the audit of one of these tables failed.
    """
    journeys_day = newest_fresh_journeys_day(lake, dataset, day, required_code)
    days = [d for d in exposure_days(lake, dataset, None, last) if d > (journeys_day or "")]
    for d in days:
        lake[EXPOSURES, dataset, d].require()
    read = lake[JOURNEYS, dataset, journeys_day].require().days if journeys_day else []
    return EarlierHistory(lake.present(JOURNEYS, dataset, read), lake.present(EXPOSURES, dataset, days))


def read_exposures(spark: SparkSession, lake: Lake, dataset: Dataset, days: Sequence[str]) -> DataFrame:
    """The published exposures of these days, with the column ds."""
    return read_days(spark, lake, exposures(dataset), dataset, days)


def journeys_before(
    spark: SparkSession, lake: Lake, dataset: Dataset, day: str, required_code: str | None = None
) -> DataFrame | None:
    """Journeys as of the end of the day before `day`; None at the first day.

    Journeys that are missing or stale in the lake are folded here, and not published.
    """
    fresh_journeys, days_since = newest_fresh_journeys(spark, lake, dataset, day, required_code)
    if not days_since:
        return fresh_journeys
    rows = read_exposures(spark, lake, dataset, days_since)
    return fold(rows, fresh_journeys, dataset, day_before(day)).to_dataframe().drop("ds").persist()

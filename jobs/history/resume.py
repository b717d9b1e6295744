"""Where a build starts: at the newest earlier journeys that are fresh, or at the first exposure."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession

from jobs.history.journeys import fold
from jobs.spark.partitions import read_days
from lakehouse.lake import Lake
from lakehouse.published_days import days_before, newest_fresh_day
from schemas.dataset import Dataset
from schemas.days import day_before
from schemas.tables import JOURNEYS
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
    journeys_day = newest_fresh_day(lake, JOURNEYS, dataset, day, required_code)
    if journeys_day is None:
        return None, exposure_days
    rows = read_days(spark, lake, journeys(dataset), dataset, [journeys_day]).drop("ds")
    return rows, [d for d in exposure_days if d > journeys_day]


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

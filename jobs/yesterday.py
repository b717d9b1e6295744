"""Where a day's build starts: at yesterday's journeys, or at the first exposure where they are missing."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession

from jobs.days import days_before, end_of_day_ms
from jobs.journeys import channel_names, fold
from jobs.lake_io import read_days
from schemas.dataset import Dataset
from schemas.paths import Lake, day_before
from schemas.publishing import read_manifest
from schemas.tables.exposures import exposures
from schemas.tables.journeys import NAME, journeys


def published_journeys(spark: SparkSession, lake: Lake, dataset: Dataset, day: str) -> DataFrame | None:
    """`journeys` as of the end of the day before `day`, None where they are not published."""
    yesterday = day_before(day)
    if read_manifest(lake.partition(NAME, dataset.name, yesterday)) is None:
        return None
    return read_days(spark, lake, journeys(dataset), dataset.name, [yesterday]).drop("ds")


def exposures_of(spark: SparkSession, lake: Lake, dataset: Dataset, days: Sequence[str]) -> DataFrame:
    return read_days(spark, lake, exposures(dataset), dataset.name, days)


def journeys_before(spark: SparkSession, lake: Lake, dataset: Dataset, day: str) -> DataFrame | None:
    """As published_journeys, but rebuilt from exposures where missing; None at the very first day.

    Rebuilding folds all earlier exposures in one go; it gives the same rows as folding day by day.
    """
    published = published_journeys(spark, lake, dataset, day)
    earlier = days_before(lake, dataset, day)
    if published is not None or not earlier:
        return published
    history = exposures_of(spark, lake, dataset, earlier)
    channels = channel_names(history, None, dataset)
    return fold(history, None, dataset, channels, end_of_day_ms(dataset, day_before(day))).persist()

"""Where a day's build starts: at the newest journeys before it that are fresh, or at the first exposure."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession

from jobs.history.journeys import fold
from jobs.spark.partitions import read_days
from lakehouse.lake import Lake
from lakehouse.published_days import days_before
from schemas.dataset import Dataset
from schemas.days import day_before
from schemas.tables import EXPOSURES, JOURNEYS
from schemas.tables.exposures import exposures
from schemas.tables.journeys import journeys


def newest_fresh_journeys(
    spark: SparkSession, lake: Lake, dataset: Dataset, day: str, this_code: str | None = None
) -> tuple[DataFrame | None, list[str]]:
    """The newest `journeys` before `day` that still match the exposures, and the exposure days since.

    Their day is yesterday as a rule; where it is missing or stale an earlier one, or none (then all exposure days
    before `day` are given). Folding the days in between gives the same rows as folding day by day.
    """
    earlier = days_before(lake, dataset, day)
    found = lake.fingerprints(EXPOSURES, dataset, earlier)
    for known in reversed([d for d in lake.days(JOURNEYS, dataset) if d < day]):
        inputs = {path: content for path, content in found.items() if path.rpartition("ds=")[2] <= known}
        if lake[JOURNEYS, dataset, known].is_fresh(inputs, this_code=this_code):
            rows = read_days(spark, lake, journeys(dataset), dataset, [known]).drop("ds")
            return rows, [d for d in earlier if d > known]
    return None, earlier


def exposures_of(spark: SparkSession, lake: Lake, dataset: Dataset, days: Sequence[str]) -> DataFrame:
    return read_days(spark, lake, exposures(dataset), dataset, days)


def journeys_before(
    spark: SparkSession, lake: Lake, dataset: Dataset, day: str, this_code: str | None = None
) -> DataFrame | None:
    """Journeys as of the end of the day before `day`, folded here where none lie there fresh; None at the first day."""
    found, since = newest_fresh_journeys(spark, lake, dataset, day, this_code)
    if not since:
        return found
    rows = exposures_of(spark, lake, dataset, since)
    return fold(rows, found, dataset, day_before(day)).frame().drop("ds").persist()

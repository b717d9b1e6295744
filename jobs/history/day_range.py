"""A range of days for the tables that are built from exposures and the journeys before them, in chunks."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession

from jobs.history.journeys import fold
from jobs.history.resume import journeys_before, read_exposures
from jobs.spark.partitions import day_chunks
from lakehouse.lake import Lake
from lakehouse.published_days import exposure_days
from schemas.dataset import Dataset
from schemas.days import day_before


class DayChunk(NamedTuple):
    """Days to build together, and the rows to build them from.

    exposures: rows of the table `exposures` plus ds, of these days and of days between the journeys and them.
    earlier_journeys: the table `journeys` before the first exposure, None without earlier history.
    """

    days: Sequence[str]
    exposures: DataFrame
    earlier_journeys: DataFrame | None


def chunks_of_days(
    spark: SparkSession, lake: Lake, dataset: Dataset, days: Sequence[str], required_code: str | None
) -> Iterator[DayChunk]:
    """The days, oldest first, a chunk at a time. There may be other days between them.

    The journeys before a chunk are folded from those before the previous chunk. required_code: the version of the code
    that must have built published journeys, None for any.
    """

    def exposures(first: str, last: str) -> DataFrame:
        return read_exposures(spark, lake, dataset, exposure_days(lake, dataset, first, last))

    start = days[0]
    journeys, previous_journeys = journeys_before(spark, lake, dataset, start, required_code), None
    for chunk in day_chunks(days):
        if chunk[0] > start:
            eve = day_before(chunk[0])
            folded = fold(exposures(start, eve), journeys, dataset, eve).to_dataframe().drop("ds").persist()
            start, journeys, previous_journeys = chunk[0], folded, journeys
        yield DayChunk(chunk, exposures(start, chunk[-1]), journeys)
        if previous_journeys is not None:
            previous_journeys.unpersist()

"""Journeys of random exposures, folded day by day."""

from pyspark.sql import DataFrame, SparkSession
from random_exposures import day

from jobs.history.journeys import fold
from schemas.dataset import Dataset
from schemas.tables.journeys import journeys

DAYS = 4


def folded(spark: SparkSession, exposures: DataFrame, dataset: Dataset, last: int) -> DataFrame | None:
    """Journeys as of day number `last`, each day's from those of the day before, collected in between."""
    result = None
    for k in range(last + 1):
        exposures_of_day = exposures.where(f"ds = '{day(k)}'")
        rows = fold(exposures_of_day, result, dataset, day(k)).to_dataframe().drop("ds").collect()
        result = spark.createDataFrame(rows, journeys(dataset).ddl)
    return result

"""Journeys that are folded day by day are the journeys that are built from the whole history."""

import pytest
from pyspark.sql import DataFrame, SparkSession
from random_exposures import day, random_exposures, to_spark

from jobs.history.journeys import fold
from schemas.dataset import Dataset, get_dataset
from schemas.steps import MEMORY_STEPS
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


def by_user(rows) -> dict:
    return {row["user_id"]: row for row in rows.collect()}


@pytest.mark.parametrize("name", ["kuairand", "criteo"])
@pytest.mark.parametrize(("users", "rows"), [(12, 160), (2, 120)])  # (2, 120): more steps than the memory holds
def test_fold_equals_rebuild(spark, name, users, rows):
    dataset = get_dataset(name)
    exposures = to_spark(spark, random_exposures(dataset, users=users, rows=rows, days=DAYS, seed=5), dataset)
    exposures = exposures.where(f"ds != '{day(2)}'")  # a day without rows
    rebuilt = by_user(fold(exposures, None, dataset, day(DAYS - 1)).to_dataframe().drop("ds"))
    assert by_user(folded(spark, exposures, dataset, DAYS - 1)) == rebuilt
    assert max(len(row.memory) for row in rebuilt.values()) <= MEMORY_STEPS
    if users == 2:
        assert all(len(row.memory) == MEMORY_STEPS for row in rebuilt.values())

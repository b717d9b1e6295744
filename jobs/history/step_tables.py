"""The tables `steps` and `item_history` of a range of days, from exposures and the journeys before them."""

from collections.abc import Mapping

from pyspark.sql import SparkSession

from jobs.history.day_range import chunks_of_days
from jobs.history.item_history import publish_item_history
from jobs.history.steps import step_rows
from jobs.spark.partitions import publish_days
from jobs.spark.session import Session
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.published_days import stale_days
from schemas.dataset import Dataset
from schemas.tables import EXPOSURES, ITEM_HISTORY, STEPS
from schemas.tables.steps import steps


def update_steps(lake: Lake, dataset: Dataset, days: list[str], required_code: str | None, session: Session) -> None:
    """Build those partitions of both tables that are not fresh, and print a line for each table."""
    inputs = lake.history_inputs(EXPOSURES, dataset, days)
    for day in (stale := stale_days(lake, ITEM_HISTORY, dataset, inputs, this_code=required_code)):
        publish_item_history(lake, dataset, day, inputs[day], required_code)
    _print_days(ITEM_HISTORY, dataset, days, len(stale))
    if stale := stale_days(lake, STEPS, dataset, inputs, this_code=required_code):
        with session(f"steps {dataset.name}") as spark:
            build(spark, lake, dataset, stale, inputs, required_code)
    _print_days(STEPS, dataset, days, len(stale))


def build(
    spark: SparkSession, lake: Lake, dataset: Dataset, days: list[str], inputs: Mapping[str, Mapping[str, str]],
    required_code: str | None,
) -> dict[str, Manifest]:  # fmt: skip
    """Publish the steps of these days, oldest first, a chunk of days at a time. inputs: of each day."""
    published: dict[str, Manifest] = {}
    replaces = lake.present(STEPS, dataset, days)
    for chunk in chunks_of_days(spark, lake, dataset, days, required_code):
        rows = step_rows(chunk.exposures, chunk.earlier_journeys, dataset, chunk.days)
        published |= publish_days(
            spark, rows, lake, steps(dataset), dataset, chunk.days, inputs=inputs.__getitem__, replaces=replaces
        )
    return published


def _print_days(table: str, dataset: Dataset, days: list[str], built: int) -> None:
    span = days[0] if len(days) == 1 else f"{days[0]}..{days[-1]}"
    print(f"{table} {dataset.name} {span}: {built} days built, {len(days) - built} fresh and left alone")

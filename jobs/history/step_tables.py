"""The tables `steps`, `sequences` and `item_history` of days, from exposures and the history before them."""

from collections.abc import Mapping, Sequence

from pyspark import SparkContext

from jobs.history.bucket_steps import BucketJob
from jobs.history.item_history import CountFiles, planned_folds, publish_item_history
from jobs.history.resume import EarlierHistory, earlier_history
from jobs.spark.buckets import files_by_day, in_each_bucket
from jobs.spark.context import OpenContext
from jobs.spark.files_per_day import files_per_day
from jobs.spark.partitions import commit_built_days, day_chunks
from jobs.spark.progress import describe_job
from lakehouse.lake import Lake
from lakehouse.published_days import stale_days
from schemas.dataset import Dataset
from schemas.tables import EXPOSURES, ITEM_HISTORY, JOURNEYS, SEQUENCES, STEPS
from schemas.tables.sequences import sequences
from schemas.tables.steps import steps


def update_steps(
    lake: Lake, dataset: Dataset, days: list[str], window_steps: int, required_code: str | None, opened: OpenContext
) -> None:
    """Build those partitions of the three tables that are not fresh, and print a line for each table."""
    history = lake.history_inputs(EXPOSURES, dataset, days)
    inputs = {
        ITEM_HISTORY: history,
        STEPS: history,
        SEQUENCES: {day: history[day] | {"steps": str(window_steps)} for day in days},
    }
    stale = {table: stale_days(lake, table, dataset, inputs[table], this_code=required_code) for table in inputs}
    if any(stale.values()):
        lake.require_writable()
        with opened(f"steps {dataset.name}") as spark:
            build(spark, lake, dataset, stale, window_steps, inputs, required_code)
    for table in inputs:
        _print_days(table, dataset, days, len(stale[table]))


def build(
    spark: SparkContext, lake: Lake, dataset: Dataset, stale: Mapping[str, Sequence[str]], window_steps: int,
    inputs: Mapping[str, Mapping[str, Mapping[str, str]]], required_code: str | None,
) -> None:  # fmt: skip
    """Publish the stale days of the three tables. stale: the days of each table. inputs: of each table and day."""
    days = sorted({*stale[STEPS], *stale[SEQUENCES]})
    replaces = {table: lake.present(table, dataset, {*days, *stale[table]}) for table in inputs}
    history = earlier_history(lake, dataset, days[0], days[-1], required_code) if days else EarlierHistory({}, {})
    folds = planned_folds(lake, dataset, stale[ITEM_HISTORY], required_code)
    job = BucketJob(
        dataset=dataset,
        folders={table: str(lake.table(table, dataset)) for table in (EXPOSURES, JOURNEYS, *inputs)},
        window_steps=window_steps,
        days=days,
        exposures=history.exposures,
        chunks=day_chunks(history.exposures),
        earlier_journeys=history.journeys,
        counted=lake.present(EXPOSURES, dataset, [day for fold in folds for day in fold.new_days]),
    )
    describe_job(spark, "computing steps and windows")
    results = in_each_bucket(spark, files_per_day(lake, dataset), job)
    files = files_by_day(results)
    for table in (steps(dataset), sequences(dataset)):
        commit_built_days(
            lake, table, dataset, days, files.get(table.name, {}), inputs=inputs[table.name].__getitem__,
            replaces=replaces[table.name],
        )  # fmt: skip
    publish_item_history(
        lake, dataset, folds, [result for result in results if isinstance(result, CountFiles)],
        inputs=inputs[ITEM_HISTORY].__getitem__, replaces=replaces[ITEM_HISTORY],
    )  # fmt: skip


def _print_days(table: str, dataset: Dataset, days: list[str], built: int) -> None:
    span = days[0] if len(days) == 1 else f"{days[0]}..{days[-1]}"
    print(f"{table} {dataset.name} {span}: {built} days built, {len(days) - built} already fresh")

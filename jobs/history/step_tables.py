"""The tables `steps` and `sequences` of a range of days, from exposures and the journeys before them."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from pyspark import SparkContext

from jobs.history.bucket_steps import BucketJob
from jobs.history.item_history import publish_item_history
from jobs.history.resume import earlier_history
from jobs.spark.buckets import in_each_bucket
from jobs.spark.context import OpenContext
from jobs.spark.partitions import commit_built_days, day_chunks, files_per_day
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
    stale_steps = sorted({*stale[STEPS], *stale[SEQUENCES]})
    # The history of items needs no Spark: it is built while Spark's workers are busy. The thread starts after Java,
    # because a process with threads may hang when it starts another one.
    with opened(f"steps {dataset.name}") if stale_steps else nullcontext() as spark, ThreadPoolExecutor(1) as pool:
        items = pool.submit(publish_item_history, lake, dataset, stale[ITEM_HISTORY], history, required_code)
        if spark is not None:
            build(spark, lake, dataset, stale_steps, window_steps, inputs, required_code)
        items.result()
    for table in inputs:
        _print_days(table, dataset, days, len(stale[table]))


def build(
    spark: SparkContext, lake: Lake, dataset: Dataset, days: list[str], window_steps: int,
    inputs: Mapping[str, Mapping[str, Mapping[str, str]]], required_code: str | None,
) -> None:  # fmt: skip
    """Publish the steps and windows of these days. inputs: of each table and day."""
    replaces = {table: lake.present(table, dataset, days) for table in (STEPS, SEQUENCES)}
    history = earlier_history(lake, dataset, days[0], days[-1], required_code)
    job = BucketJob(
        dataset=dataset,
        folders={table: str(lake.table(table, dataset)) for table in (EXPOSURES, JOURNEYS, STEPS, SEQUENCES)},
        window_steps=window_steps,
        days=days,
        exposures=history.exposures,
        chunks=day_chunks(history.exposures),
        earlier_journeys=history.journeys,
    )
    describe_job(spark, "computing steps and windows")
    files = in_each_bucket(spark, files_per_day(lake, dataset), job)
    for table in (steps(dataset), sequences(dataset)):
        commit_built_days(
            lake, table, dataset, days, files.get(table.name, {}), inputs=inputs[table.name].__getitem__,
            replaces=replaces[table.name],
        )  # fmt: skip


def _print_days(table: str, dataset: Dataset, days: list[str], built: int) -> None:
    span = days[0] if len(days) == 1 else f"{days[0]}..{days[-1]}"
    print(f"{table} {dataset.name} {span}: {built} days built, {len(days) - built} already fresh")

"""Exposures and the journeys before them to the tables `steps` and `item_history`, for a range of days.

    spark-submit jobs/build_steps.py --dataset kuairand --lake lake [--from DAY] [--to DAY] | [--up-to DAY]
        [--this-code]

--up-to DAY: that day, and earlier days whose published tables are stale, as far back as outcomes may arrive late
(Dataset.outcome_days). Partitions that are fresh are left alone.
"""

from collections.abc import Mapping

from pyspark.sql import SparkSession

from jobs.history.day_range import chunks_of_days
from jobs.history.item_history import publish_item_history
from jobs.history.resume import inputs_up_to
from jobs.history.steps import step_rows
from jobs.spark.partitions import publish_days
from jobs.spark.session import Session, spark_session
from lakehouse.arguments import (
    add_day_range,
    add_lake,
    add_this_code,
    dataset_of,
    dataset_parser,
    day_range_of,
    lake_of,
    required_code_of,
)
from lakehouse.lake import Lake
from lakehouse.locks import locked
from lakehouse.manifest import Manifest
from lakehouse.published_days import days_to_update, exposure_days
from schemas.dataset import Dataset
from schemas.days import checked_day
from schemas.errors import exit_with_one_line
from schemas.tables import ITEM_HISTORY, JOURNEYS, STEPS
from schemas.tables.steps import steps


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    add_day_range(parser)
    add_this_code(parser)
    parser.add_argument("--up-to", metavar="DAY", help="that day, and stale ones as far back as outcomes come late")
    args = parser.parse_args()
    dataset, lake, code = dataset_of(args), lake_of(args), required_code_of(args, "jobs")
    if args.up_to:
        days = days_to_update(lake, dataset, checked_day(args.up_to), STEPS)
    else:
        days = exposure_days(lake, dataset, *day_range_of(args))
    update(lake, dataset, days, code, spark_session)


def update(lake: Lake, dataset: Dataset, days: list[str], required_code: str | None, session: Session) -> None:
    """Build those partitions of both tables that are not fresh, and print a line for each table."""
    with locked(lake, (STEPS, ITEM_HISTORY), dataset, days):
        # Manifests are read once, for the last day: the inputs of earlier days are among them.
        all_inputs = lake[JOURNEYS, dataset, days[-1]].current_inputs()
        inputs = {day: inputs_up_to(all_inputs, day) for day in days}
        for day in (stale := _stale_days(lake, ITEM_HISTORY, dataset, inputs, required_code)):
            publish_item_history(lake, dataset, day, inputs[day], required_code)
        _print_days(ITEM_HISTORY, dataset, days, len(stale))
        if stale := _stale_days(lake, STEPS, dataset, inputs, required_code):
            with session(f"steps {dataset.name}") as spark:
                build(spark, lake, dataset, stale, inputs, required_code)
        _print_days(STEPS, dataset, days, len(stale))


def build(
    spark: SparkSession, lake: Lake, dataset: Dataset, days: list[str], inputs: Mapping[str, Mapping[str, str]],
    required_code: str | None,
) -> dict[str, Manifest]:  # fmt: skip
    """Publish the steps of these days, oldest first, a chunk of days at a time. inputs: of each day."""
    published: dict[str, Manifest] = {}
    for chunk in chunks_of_days(spark, lake, dataset, days, required_code):
        rows = step_rows(chunk.exposures, chunk.earlier_journeys, dataset, chunk.days)
        published |= publish_days(spark, rows, lake, steps(dataset), dataset, chunk.days, inputs=inputs.__getitem__)
    return published


def _stale_days(
    lake: Lake, table: str, dataset: Dataset, inputs: Mapping[str, Mapping[str, str]], required_code: str | None
) -> list[str]:
    return [day for day in inputs if not lake[table, dataset, day].is_fresh(inputs[day], this_code=required_code)]


def _print_days(table: str, dataset: Dataset, days: list[str], built: int) -> None:
    span = days[0] if len(days) == 1 else f"{days[0]}..{days[-1]}"
    print(f"{table} {dataset.name} {span}: {built} days built, {len(days) - built} fresh and left alone")


if __name__ == "__main__":
    exit_with_one_line(main)

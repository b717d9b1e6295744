"""Yesterday's journeys and one day's exposures to that day's `journeys`.

    spark-submit jobs/build_journeys.py --dataset kuairand --lake lake [--day DAY] [--this-code]

Where yesterday's journeys are missing, or no longer match the exposures, the fold starts at the newest ones that do,
or at the first exposure: the same rows, more work. Journeys that are fresh are left alone.
"""

from pyspark.sql import SparkSession

from jobs.history.journeys import fold
from jobs.history.resume import exposures_of, newest_fresh_journeys
from jobs.spark.partitions import publish_days
from jobs.spark.session import Session, spark_session
from lakehouse.arguments import add_lake, add_this_code, dataset_of, dataset_parser, lake_of, required_code_of
from lakehouse.lake import Lake
from lakehouse.locks import locked
from lakehouse.manifest import Manifest
from lakehouse.published_days import exposure_days
from schemas.dataset import Dataset
from schemas.days import checked_day
from schemas.errors import exit_with_one_line
from schemas.tables import JOURNEYS
from schemas.tables.journeys import journeys


def main() -> None:
    arguments = dataset_parser(__doc__)
    add_lake(arguments)
    add_this_code(arguments)
    arguments.add_argument("--day", help="YYYY-MM-DD; default: the last day of exposures")
    args = arguments.parse_args()
    dataset, lake, code = dataset_of(args), lake_of(args), required_code_of(args, "jobs")
    day = exposure_days(lake, dataset, checked_day(args.day) if args.day else None, args.day)[-1]

    update(lake, dataset, day, code, spark_session)


def update(lake: Lake, dataset: Dataset, day: str, code: str | None, session: Session) -> None:
    """Build the day's journeys where they are not fresh; prints what became of them."""
    with locked(lake, (JOURNEYS,), dataset, [day]):
        partition = lake[JOURNEYS, dataset, day]
        inputs, before = partition.current_inputs(), partition.manifest
        if before and before.is_fresh(inputs, this_code=code):
            print(f"journeys {dataset.name} {day}: fresh, left alone")
            return
        with session(f"journeys {dataset.name} {day}") as spark:
            manifest = build(spark, lake, dataset, day, inputs, code)
    same = " (the same content as before)" if before and before.fingerprint == manifest.fingerprint else ""
    print(f"journeys {dataset.name} {day}: {manifest.rows:,} users{same}")


def build(
    spark: SparkSession, lake: Lake, dataset: Dataset, day: str, inputs: dict[str, str], code: str | None
) -> Manifest:
    """Publish the journeys as of the end of the day."""
    earlier, since = newest_fresh_journeys(spark, lake, dataset, day, code)
    rows = exposures_of(spark, lake, dataset, [*since, day])
    folded = fold(rows, earlier, dataset, day)
    return publish_days(spark, folded, lake, journeys(dataset), dataset, [day], inputs=lambda _: inputs)[day]


if __name__ == "__main__":
    exit_with_one_line(main)

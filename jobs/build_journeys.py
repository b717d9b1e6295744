"""A day's exposures and the journeys of the day before to that day's `journeys`.

    spark-submit jobs/build_journeys.py --dataset kuairand --lake lake [--day DAY] [--this-code]

If the journeys of the day before are missing or no longer match the exposures, the build starts from the newest
journeys that do, or from the first exposure: the same rows, more work. Journeys that are fresh are left alone.
"""

from pyspark import SparkContext

from jobs.history.bucket_journeys import JourneyJob
from jobs.history.resume import earlier_history
from jobs.spark.buckets import in_each_bucket
from jobs.spark.context import OpenContext, spark_context
from jobs.spark.partitions import commit_built_days, day_chunks
from jobs.spark.progress import describe_job
from lakehouse.arguments import add_lake, add_this_code, dataset_of, dataset_parser, lake_of, required_code_of
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.published_days import exposure_days
from schemas.dataset import Dataset
from schemas.days import checked_day
from schemas.errors import exit_with_one_line
from schemas.tables import EXPOSURES, JOURNEYS
from schemas.tables.journeys import journeys


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    add_this_code(parser)
    parser.add_argument("--day", help="YYYY-MM-DD; default: the last day of exposures")
    args = parser.parse_args()
    dataset, lake, code = dataset_of(args), lake_of(args), required_code_of(args, "jobs")
    day = exposure_days(lake, dataset, checked_day(args.day) if args.day else None, args.day)[-1]

    update(lake, dataset, day, code, spark_context)


def update(lake: Lake, dataset: Dataset, day: str, required_code: str | None, opened: OpenContext) -> None:
    """Build the day's journeys unless they are fresh, and print one line about them."""
    partition = lake[JOURNEYS, dataset, day]
    inputs, published = partition.current_inputs(), partition.manifest
    if published and published.is_fresh(inputs, this_code=required_code):
        print(f"journeys {dataset.name} {day}: fresh, left alone")
        return
    lake.require_writable()
    with opened(f"journeys {dataset.name} {day}") as spark:
        manifest = build(spark, lake, dataset, day, inputs, required_code)
    unchanged = published is not None and published.fingerprint == manifest.fingerprint
    note = " (the same content as before)" if unchanged else ""
    print(f"journeys {dataset.name} {day}: {manifest.rows:,} users{note}")


def build(
    spark: SparkContext, lake: Lake, dataset: Dataset, day: str, inputs: dict[str, str], required_code: str | None
) -> Manifest:
    """Publish the journeys as of the end of the day."""
    replaces = lake.present(JOURNEYS, dataset, [day])
    history = earlier_history(lake, dataset, day, day, required_code)
    job = JourneyJob(
        dataset=dataset,
        folders={table: str(lake.table(table, dataset)) for table in (EXPOSURES, JOURNEYS)},
        exposures=history.exposures,
        chunks=day_chunks(list(history.exposures)),
        earlier_journeys=history.journeys,
    )
    describe_job(spark, "writing journeys")
    files = in_each_bucket(spark, job).get(JOURNEYS, {})
    return commit_built_days(
        lake, journeys(dataset), dataset, [day], files, inputs=lambda _: inputs, replaces=replaces
    )[day]


if __name__ == "__main__":
    exit_with_one_line(main)

"""A day's exposures and the journeys of the day before to that day's `journeys`.

    spark-submit jobs/build_journeys.py --dataset kuairand --lake lake [--day DAY] [--this-code]

If the journeys of the day before are missing or no longer match the exposures, the build starts from the newest
journeys that do, or from the first exposure: the same rows, more work. Journeys that are fresh are left alone.
"""

from collections.abc import Mapping
from typing import NamedTuple

from pyspark import SparkContext

from jobs.history.bucket_journeys import JourneyJob
from jobs.history.resume import earlier_history, newest_fresh_journeys_day
from jobs.spark.buckets import files_by_day, in_each_bucket
from jobs.spark.context import OpenContext, spark_context
from jobs.spark.files_per_day import files_per_day
from jobs.spark.partitions import commit_built_days, day_chunks
from jobs.spark.progress import describe_job
from lakehouse.arguments import add_lake, add_this_code, dataset_of, dataset_parser, lake_of, required_code_of
from lakehouse.journeys import count_users, snapshot_before
from lakehouse.lake import Lake
from lakehouse.manifest import DAYS_READ, Manifest
from lakehouse.published_days import exposure_days
from lakehouse.storage.delta_table import FilesByValue
from schemas.dataset import Dataset
from schemas.days import checked_day, day_plus, days_between
from schemas.errors import Busy, exit_with_one_line
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
    published = lake[JOURNEYS, dataset, day].manifest
    if newest_fresh_journeys_day(lake, dataset, day_plus(day, 1), required_code) == day:
        print(f"journeys {dataset.name} {day}: fresh, left alone")
        return
    lake.require_writable()
    with opened(f"journeys {dataset.name} {day}") as spark:
        manifest = build(spark, lake, dataset, day, required_code)
    unchanged = published is not None and published.fingerprint == manifest.fingerprint
    note = " (the same content as before)" if unchanged else ""
    users = count_users(lake, dataset, day)
    print(f"journeys {dataset.name} {day}: {users:,} users, {manifest.rows:,} of them changed{note}")


def build(spark: SparkContext, lake: Lake, dataset: Dataset, day: str, required_code: str | None) -> Manifest:
    """Publish the journeys as of the end of the day, with those earlier days since the last snapshot that it needs."""
    edition = present_edition(lake, dataset, day)
    job = journey_job(lake, dataset, day, required_code)
    describe_job(spark, "writing journeys")
    files = files_by_day(in_each_bucket(spark, files_per_day(lake, dataset), job)).get(JOURNEYS, {})
    return publish(lake, job, files, edition)[day]


class Edition(NamedTuple):
    """The inputs of journeys, and the files of journeys, that the lake has before a build, by day."""

    inputs: Mapping[str, Mapping[str, str]]
    replaces: FilesByValue


def present_edition(lake: Lake, dataset: Dataset, day: str) -> Edition:
    """The edition of the days that may be published with `day`.

    Taken before the job lists the exposures: journeys are stale if exposures are published while they are built.
    """
    days = [d for d in lake.days(EXPOSURES, dataset) if _snapshot(lake, dataset, day) <= d <= day]
    return Edition(lake.history_inputs(EXPOSURES, dataset, days), lake.present(JOURNEYS, dataset, days))


def _snapshot(lake: Lake, dataset: Dataset, day: str) -> str:
    return snapshot_before(day, lake.days(EXPOSURES, dataset)[0])


def journey_job(lake: Lake, dataset: Dataset, day: str, required_code: str | None) -> JourneyJob:
    """The work on each bucket of users."""
    snapshot = _snapshot(lake, dataset, day)
    history = earlier_history(lake, dataset, day, day, required_code)
    days, earlier_days = list(history.exposures), list(history.journeys)
    # In a lake of an earlier version each partition has all users, and the day before is enough.
    first_read = earlier_days[0] if earlier_days and earlier_days[-1] >= snapshot else snapshot
    return JourneyJob(
        dataset=dataset,
        folders={table: str(lake.table(table, dataset)) for table in (EXPOSURES, JOURNEYS)},
        exposures=history.exposures,
        chunks=[
            *day_chunks({d: files for d, files in history.exposures.items() if d <= snapshot}),
            *([d] for d in days if d > snapshot),
        ],
        published={d: len(days_between(first_read, d)) for d in days if d >= snapshot},
        earlier_journeys=history.journeys,
    )


def publish(lake: Lake, job: JourneyJob, files: FilesByValue, edition: Edition) -> dict[str, Manifest]:
    """Publish the days of a job. files: those that the workers have stored. edition: from before the job was planned.

    Raises Busy if another run has published exposures of another day in the meantime.
    """
    days = list(job.published)
    if new_days := job.published.keys() - edition.inputs.keys():
        raise Busy(f"another run has just published exposures of {min(new_days)}: run again")
    counts = {day: {DAYS_READ: number} for day, number in job.published.items() if number > 1}
    return commit_built_days(
        lake, journeys(job.dataset), job.dataset, days, files, inputs=edition.inputs.__getitem__,
        replaces={d: edition.replaces[d] for d in days},
        counts=lambda day, _: counts.get(day, {}),
    )  # fmt: skip


if __name__ == "__main__":
    exit_with_one_line(main)

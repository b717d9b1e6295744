"""Yesterday's journeys and one day's exposures to that day's `journeys`.

    spark-submit jobs/build_journeys.py --dataset kuairand --lake lake [--day DAY]

Where yesterday's journeys are missing they are rebuilt from `exposures`, with the same result.
"""

from jobs.arguments import add_lake, dataset_of, lake_of, parser
from jobs.days import days_before, end_of_day_ms, exposure_days
from jobs.journeys import channel_names, fold
from jobs.lake_io import fingerprints, publish_days
from jobs.session import spark_session
from jobs.yesterday import exposures_of, published_journeys
from schemas.errors import exit_with_one_line
from schemas.paths import checked_day
from schemas.tables.exposures import NAME as EXPOSURES
from schemas.tables.journeys import journeys


def main() -> None:
    arguments = parser(__doc__)
    add_lake(arguments)
    arguments.add_argument("--day", help="YYYY-MM-DD; default: the last day of exposures")
    args = arguments.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    day = exposure_days(lake, dataset, checked_day(args.day) if args.day else None, args.day)[-1]

    with spark_session(f"journeys {dataset.name} {day}") as spark:
        earlier = days_before(lake, dataset, day)
        yesterday = published_journeys(spark, lake, dataset, day)
        # Without yesterday's journeys the fold starts at the first exposure: the same rows, more work.
        today = exposures_of(spark, lake, dataset, [day] if yesterday is not None else [*earlier, day])
        channels = channel_names(today, yesterday, dataset)
        rows = fold(today, yesterday, dataset, channels, end_of_day_ms(dataset, day)).selectExpr("*", f"'{day}' AS ds")
        # The journeys of a day rest on all exposures up to it, however they were built.
        inputs = fingerprints(lake, EXPOSURES, dataset.name, [*earlier, day])
        manifest = publish_days(
            rows, lake, journeys(dataset), dataset.name, [day],
            split_by="user_id", order_by=("user_id",), inputs=lambda _: inputs,
        )[day]  # fmt: skip
    print(f"journeys {dataset.name} {day}: {manifest.rows:,} users")


if __name__ == "__main__":
    exit_with_one_line(main)

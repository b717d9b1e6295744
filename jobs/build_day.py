"""A day's exposures to its journeys, steps and sequences with one start of Spark.

    spark-submit jobs/build_day.py --dataset kuairand --lake lake --day DAY [--this-code]

It does what build_journeys and build_sequences do. Stale steps and sequences of earlier days are built as well
(--up-to). Spark takes longer to start than a day of a small log takes to build.
"""

from jobs import build_journeys
from jobs.history.step_tables import update_steps
from jobs.spark.context import shared_context, spark_context
from lakehouse.arguments import add_this_code, dataset_of, day_parser, lake_of, required_code_of
from lakehouse.published_days import days_to_update, exposure_days
from schemas.days import checked_day
from schemas.errors import exit_with_one_line
from schemas.steps import DEFAULT_STEPS
from schemas.tables import SEQUENCES


def main() -> None:
    parser = day_parser(__doc__)
    add_this_code(parser)
    args = parser.parse_args()
    dataset, lake, code = dataset_of(args), lake_of(args), required_code_of(args, "jobs")
    (day,) = exposure_days(lake, dataset, checked_day(args.day), args.day)
    with shared_context(spark_context, f"{dataset.name} {day}") as opened:
        # Steps are built from the journeys of the day before, not from these.
        build_journeys.update(lake, dataset, day, code, opened)
        days = days_to_update(lake, dataset, day, SEQUENCES)
        update_steps(lake, dataset, days, DEFAULT_STEPS, code, opened)


if __name__ == "__main__":
    exit_with_one_line(main)

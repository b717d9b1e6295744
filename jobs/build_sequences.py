"""Exposures and the journeys before them to windows of n steps: the table `sequences`, for a range of days.

spark-submit jobs/build_sequences.py --dataset kuairand --lake lake [--from DAY] [--to DAY] [--steps 20]
    [--spec-day DAY | --spec FILE] [--this-code] | [--up-to DAY]

--up-to DAY: that day's, and those of the days before it that lie there stale, as far back as outcomes may come in
late (Dataset.outcome_days): how labels mature. Sequences that are fresh are left alone.
"""

from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from jobs.history.journeys import fold
from jobs.history.resume import exposures_of, journeys_before
from jobs.history.windows import cut_windows
from jobs.spark.partitions import publish_days, some_days_at_once
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
from lakehouse.feature_specs import published_spec, spec_in_file
from lakehouse.lake import Lake
from lakehouse.locks import locked
from lakehouse.manifest import Manifest
from lakehouse.published_days import exposure_days
from schemas.dataset import Dataset
from schemas.days import checked_day, day_before, days_between
from schemas.errors import UserError, exit_with_one_line
from schemas.steps import MEMORY_STEPS
from schemas.tables import JOURNEYS, SEQUENCES
from schemas.tables.feature_spec import FeatureSpec
from schemas.tables.sequences import DEFAULT_STEPS, sequences


def main() -> None:
    arguments = dataset_parser(__doc__)
    add_lake(arguments)
    add_day_range(arguments)
    add_this_code(arguments)
    arguments.add_argument("--up-to", metavar="DAY", help="that day, and stale ones as far back as outcomes come late")
    arguments.add_argument("--steps", type=int, default=DEFAULT_STEPS, help=f"window length n, 2 to {MEMORY_STEPS}")
    which = arguments.add_mutually_exclusive_group()
    which.add_argument("--spec", type=Path, help="a feature_spec.json; default: the lake's newest spec")
    which.add_argument("--spec-day", metavar="DAY", help="the day whose published spec to use")
    args = arguments.parse_args()
    if not 2 <= args.steps <= MEMORY_STEPS:
        raise UserError(f"--steps {args.steps}: choose 2 to {MEMORY_STEPS}, the length of the journey memory")
    dataset, lake, code = dataset_of(args), lake_of(args), required_code_of(args, "jobs")
    if args.up_to:
        days = days_up_to(lake, dataset, checked_day(args.up_to))
    else:
        days = exposure_days(lake, dataset, *day_range_of(args))
    spec = spec_in_file(args.spec) if args.spec else published_spec(lake, dataset.name, args.spec_day)

    update(lake, dataset, days, spec, args.steps, code, spark_session)


def update(
    lake: Lake, dataset: Dataset, days: list[str], spec: FeatureSpec, steps: int, code: str | None,
    session: Session,
) -> None:  # fmt: skip
    """Build the sequences of those of the days that are not fresh; prints what became of them."""
    with locked(lake, (SEQUENCES,), dataset, days):
        # Each manifest is read once, not once for each day that rests on it.
        found = lake[JOURNEYS, dataset, days[-1]].current_inputs()
        inputs = {
            day: {path: content for path, content in found.items() if path.rpartition("ds=")[2] <= day}
            | {"steps": str(steps)}
            for day in days
        }
        stale = [
            day for day in days
            if not lake[SEQUENCES, dataset, day].is_fresh(inputs[day], spec_version=spec.version, this_code=code)
        ]  # fmt: skip
        if stale:
            with session(f"sequences {dataset.name}") as spark:
                manifests = build(spark, lake, dataset, stale, spec, steps, inputs, code)
    if stale:
        total = sum(m.rows for m in manifests.values())
        print(f"sequences {dataset.name} {', '.join(_spans(stale))}: {total:,} windows of {steps} steps")
    if fresh := len(days) - len(stale):
        print(f"sequences {dataset.name} {days[0]}..{days[-1]}: {fresh} of {len(days)} days are fresh and left alone")


def days_up_to(lake: Lake, dataset: Dataset, day: str) -> list[str]:
    """The day, and before it those that have sequences already and may still see outcomes come in."""
    first = day
    for _ in range(dataset.outcome_days):
        first = day_before(first)
    there = {*lake.days(SEQUENCES, dataset), day} & set(exposure_days(lake, dataset, None, day))
    return [d for d in days_between(first, day) if d in there]


def build(
    spark: SparkSession, lake: Lake, dataset: Dataset, days: list[str], spec: FeatureSpec, steps: int,
    inputs: dict[str, dict[str, str]], code: str | None,
) -> dict[str, Manifest]:  # fmt: skip
    """Publish the windows of these days, oldest first, some at once: the journeys go on from one run to the next."""

    def rows(first: str, last: str) -> DataFrame:
        return exposures_of(spark, lake, dataset, exposure_days(lake, dataset, first, last))

    first, before, published = days[0], None, {}
    journeys = journeys_before(spark, lake, dataset, first, code)  # as of the day before the first
    for some in some_days_at_once(days):
        if some[0] > first:
            eve = day_before(some[0])
            folded = fold(rows(first, eve), journeys, dataset, eve).frame().drop("ds").persist()
            first, before, journeys = some[0], journeys, folded
        windows = cut_windows(rows(first, some[-1]), journeys, dataset, spec, steps, some)
        published |= publish_days(
            spark, windows, lake, sequences(dataset, spec, steps), dataset, some,
            inputs=inputs.__getitem__, spec_version=spec.version,
        )  # fmt: skip
        if before is not None:
            before.unpersist()
    return published


def _spans(days: list[str]) -> list[str]:
    """Days as spans of consecutive ones: 2022-04-22..2022-04-24."""
    spans: list[list[str]] = []
    for day in days:
        if spans and day_before(day) == spans[-1][-1]:
            spans[-1].append(day)
        else:
            spans.append([day])
    return [span[0] if len(span) == 1 else f"{span[0]}..{span[-1]}" for span in spans]


if __name__ == "__main__":
    exit_with_one_line(main)

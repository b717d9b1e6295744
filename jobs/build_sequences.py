"""Exposures and the journeys before them to windows of n steps: the table `sequences`, for a range of days.

spark-submit jobs/build_sequences.py --dataset kuairand --lake lake [--from DAY] [--to DAY] [--steps 20]
    [--spec-day DAY | --spec FILE] [--with-steps] [--this-code] | [--up-to DAY]

--with-steps: the tables `steps` and `item_history` of the days are built as well, in the same Spark session.
--up-to DAY: that day, and earlier days whose published sequences are stale, as far back as outcomes may arrive late
(Dataset.outcome_days); this is how labels mature. Sequences that are fresh are left alone.
"""

from collections.abc import Mapping

from pyspark.sql import SparkSession

from jobs.history.day_range import chunks_of_days
from jobs.history.step_tables import update_steps
from jobs.history.windows import cut_windows
from jobs.spark.partitions import publish_days
from jobs.spark.session import Session, shared_session, spark_session
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
from lakehouse.manifest import Manifest
from lakehouse.published_days import days_to_update, exposure_days, stale_days
from lakehouse.storage.store_path import located
from schemas.dataset import Dataset
from schemas.days import checked_day, day_before
from schemas.errors import UserError, exit_with_one_line
from schemas.steps import MEMORY_STEPS
from schemas.tables import EXPOSURES, SEQUENCES
from schemas.tables.feature_spec import FeatureSpec
from schemas.tables.sequences import DEFAULT_STEPS, sequences


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    add_day_range(parser)
    add_this_code(parser)
    parser.add_argument("--up-to", metavar="DAY", help="that day, and stale ones as far back as outcomes come late")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help=f"window length n, 2 to {MEMORY_STEPS}")
    parser.add_argument("--with-steps", action="store_true", help="build `steps` and `item_history` as well")
    spec_source = parser.add_mutually_exclusive_group()
    spec_source.add_argument("--spec", type=located, help="a feature_spec.json; default: the lake's newest spec")
    spec_source.add_argument("--spec-day", metavar="DAY", help="the day whose published spec to use")
    args = parser.parse_args()
    if not 2 <= args.steps <= MEMORY_STEPS:
        raise UserError(f"--steps {args.steps}: choose 2 to {MEMORY_STEPS}, the length of the journey memory")
    dataset, lake, code = dataset_of(args), lake_of(args), required_code_of(args, "jobs")
    if args.up_to:
        days = days_to_update(lake, dataset, checked_day(args.up_to), SEQUENCES)
    else:
        days = exposure_days(lake, dataset, *day_range_of(args))
    spec = spec_in_file(args.spec) if args.spec else published_spec(lake, dataset.name, args.spec_day)

    with shared_session(spark_session, f"sequences {dataset.name}") as session:
        if args.with_steps:
            update_steps(lake, dataset, days, code, session)
        update(lake, dataset, days, spec, args.steps, code, session)


def update(
    lake: Lake, dataset: Dataset, days: list[str], spec: FeatureSpec, steps: int, required_code: str | None,
    session: Session,
) -> None:  # fmt: skip
    """Build the sequences of those days that are not fresh, and print how many were built and how many were fresh."""
    history = lake.history_inputs(EXPOSURES, dataset, days)
    inputs = {day: history[day] | {"steps": str(steps)} for day in days}
    stale = stale_days(lake, SEQUENCES, dataset, inputs, spec_version=spec.version, this_code=required_code)
    if stale:
        lake.require_writable()
        with session(f"sequences {dataset.name}") as spark:
            manifests = build(spark, lake, dataset, stale, spec, steps, inputs, required_code)
    if stale:
        windows = sum(m.rows for m in manifests.values())
        print(f"sequences {dataset.name} {', '.join(_spans(stale))}: {windows:,} windows of {steps} steps")
    if fresh := len(days) - len(stale):
        print(f"sequences {dataset.name} {days[0]}..{days[-1]}: {fresh} of {len(days)} days are fresh and left alone")


def build(
    spark: SparkSession, lake: Lake, dataset: Dataset, days: list[str], spec: FeatureSpec, steps: int,
    inputs: Mapping[str, Mapping[str, str]], required_code: str | None,
) -> dict[str, Manifest]:  # fmt: skip
    """Publish the windows of these days, oldest first, a chunk of days at a time. inputs: of each day."""
    published: dict[str, Manifest] = {}
    replaces = lake.present(SEQUENCES, dataset, days)
    for chunk in chunks_of_days(spark, lake, dataset, days, required_code):
        windows = cut_windows(chunk.exposures, chunk.earlier_journeys, dataset, spec, steps, chunk.days)
        published |= publish_days(
            spark, windows, lake, sequences(dataset, spec, steps), dataset, chunk.days,
            inputs=inputs.__getitem__, replaces=replaces, spec_version=spec.version,
        )  # fmt: skip
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

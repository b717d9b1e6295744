"""Exposures and the journeys before them to windows of n steps: the table `sequences`, for a range of days.

spark-submit jobs/build_sequences.py --dataset kuairand --lake lake [--from DAY] [--to DAY] [--steps 20]
    [--spec-day DAY | --spec FILE]
"""

from pathlib import Path

from jobs.arguments import add_lake, add_range, dataset_of, lake_of, parser, range_of
from jobs.days import days_before, end_of_day_ms, exposure_days
from jobs.history import with_history
from jobs.journeys import channel_names
from jobs.lake_io import fingerprints, publish_days
from jobs.session import spark_session
from jobs.table_contract import spec_in_file
from jobs.windows import cut_windows
from jobs.yesterday import exposures_of, journeys_before
from schemas.errors import UserError, exit_with_one_line
from schemas.steps import MEMORY_STEPS
from schemas.tables.exposures import NAME as EXPOSURES
from schemas.tables.feature_spec import published_spec
from schemas.tables.sequences import DEFAULT_STEPS, sequences


def main() -> None:
    arguments = parser(__doc__)
    add_lake(arguments)
    add_range(arguments)
    arguments.add_argument("--steps", type=int, default=DEFAULT_STEPS, help=f"window length n, 2 to {MEMORY_STEPS}")
    which = arguments.add_mutually_exclusive_group()
    which.add_argument("--spec", type=Path, help="a feature_spec.json; default: the lake's newest spec")
    which.add_argument("--spec-day", metavar="DAY", help="the day whose published spec to use")
    args = arguments.parse_args()
    if not 2 <= args.steps <= MEMORY_STEPS:
        raise UserError(f"--steps {args.steps}: choose 2 to {MEMORY_STEPS}, the length of the journey memory")
    dataset, lake = dataset_of(args), lake_of(args)
    days = exposure_days(lake, dataset, *range_of(args))
    spec = spec_in_file(args.spec) if args.spec else published_spec(lake, dataset.name, args.spec_day)

    with spark_session(f"sequences {dataset.name}") as spark:
        yesterday = journeys_before(spark, lake, dataset, days[0])
        rows = exposures_of(spark, lake, dataset, days)
        channels = channel_names(rows, yesterday, dataset)
        steps = with_history(rows, yesterday, dataset, channels, end_of_day_ms(dataset, days[-1]))
        windows = cut_windows(steps, yesterday, dataset, spec, args.steps)
        earlier = days_before(lake, dataset, days[0])
        manifests = publish_days(
            windows, lake, sequences(dataset, spec, args.steps), dataset.name, days,
            split_by="user_id", order_by=("user_id", "window"),
            inputs=lambda day: fingerprints(lake, EXPOSURES, dataset.name, [*earlier, *(d for d in days if d <= day)]),
            spec_version=spec.version,
        )  # fmt: skip
    total = sum(m.rows for m in manifests.values())
    print(f"sequences {dataset.name} {days[0]}..{days[-1]}: {total:,} windows of {args.steps} steps")


if __name__ == "__main__":
    exit_with_one_line(main)

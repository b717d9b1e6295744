"""Exposures and the journeys before them to steps and windows: the tables `steps`, `sequences` and `item_history`.

spark-submit jobs/build_sequences.py --dataset kuairand --lake lake [--from DAY] [--to DAY] [--steps 20]
    [--this-code] [--journeys] | [--up-to DAY] [--journeys]

--journeys: the journeys as of the last day as well, as build_journeys does, with one start of Spark for both. --up-to
DAY: that day, and earlier days whose published tables are stale, as far back as outcomes may arrive late
(Dataset.outcome_days); this is how labels mature. Days that are fresh are not built.
"""

from jobs import build_journeys
from jobs.history.step_tables import update_steps
from jobs.spark.context import OpenContext, shared_context, spark_context
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
from lakehouse.published_days import days_to_update, exposure_days
from schemas.dataset import Dataset
from schemas.days import checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.steps import DEFAULT_STEPS, MEMORY_STEPS
from schemas.tables import SEQUENCES


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    add_day_range(parser)
    add_this_code(parser)
    parser.add_argument("--up-to", metavar="DAY", help="that day, and stale ones as far back as outcomes come late")
    parser.add_argument("--journeys", action="store_true", help="the journeys as of the last day as well")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help=f"window length n, 2 to {MEMORY_STEPS}")
    args = parser.parse_args()
    if not 2 <= args.steps <= MEMORY_STEPS:
        raise UserError(f"--steps {args.steps}: choose 2 to {MEMORY_STEPS}, the length of the journey memory")
    dataset, lake, code = dataset_of(args), lake_of(args), required_code_of(args, "jobs")
    up_to = checked_day(args.up_to) if args.up_to else None
    days = requested_days(lake, dataset, *day_range_of(args), up_to)
    with shared_context(spark_context, f"steps {dataset.name}") as opened:
        update(lake, dataset, days, args.steps, code, opened, journeys=args.journeys)


def requested_days(lake: Lake, dataset: Dataset, first: str | None, last: str | None, up_to: str | None) -> list[str]:
    """The days of the range; with up_to, that day and those before it that may be stale."""
    return days_to_update(lake, dataset, up_to, SEQUENCES) if up_to else exposure_days(lake, dataset, first, last)


def update(
    lake: Lake, dataset: Dataset, days: list[str], window_steps: int, code: str | None, opened: OpenContext, *,
    journeys: bool,
) -> None:  # fmt: skip
    """Build the tables of these days that are not fresh, and print lines. journeys: those of the last day as well."""
    if journeys:
        # Steps are built from the journeys before their day, not from these.
        build_journeys.update(lake, dataset, days[-1], code, opened)
    update_steps(lake, dataset, days, window_steps, code, opened)


if __name__ == "__main__":
    exit_with_one_line(main)

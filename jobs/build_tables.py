"""Raw log files to exposures, steps, sequences and item_history (with --journeys, journeys too) in one start of Spark.

    spark-submit jobs/build_tables.py --dataset kuairand --raw RAW --lake lake
        [--from DAY] [--to DAY] | [--up-to DAY]; [--this-code] [--accept-few-rows] [--audit] [--journeys]

It does what build_exposures and build_sequences (with windows of the default length) do with the same flags, and
build_journeys for the last day. With --up-to, steps and sequences of earlier days are built again if they are stale.
Spark takes longer to start than a day of a small log takes to build. --audit: before steps are computed, the exposures
and quarantined rows of the requested days are audited; with --up-to, those of all days up to it that have not passed
yet. After a critical failure nothing is computed from them.
"""

from jobs import build_exposures, build_sequences
from jobs.audit_table import audit_tables
from jobs.spark.context import shared_context, spark_context
from lakehouse.arguments import dataset_of, lake_of
from schemas.errors import exit_with_one_line
from schemas.steps import DEFAULT_STEPS
from schemas.tables.registry import TABLES_FROM_RAW


def main() -> None:
    parser = build_exposures.raw_log_parser(__doc__)
    parser.add_argument("--audit", action="store_true", help="audit the exposures before steps are computed from them")
    parser.add_argument("--journeys", action="store_true", help="build the journeys as of the last day as well")
    args = parser.parse_args()
    dataset, lake, request = dataset_of(args), lake_of(args), build_exposures.request_of(args)
    with shared_context(spark_context, f"tables {dataset.name}") as opened:
        build_exposures.update(lake, dataset, args.raw, request, opened)
        up_to = request.up_to
        if args.audit:
            audit_tables(lake, dataset, TABLES_FROM_RAW, request.first, up_to or request.last, only_new=bool(up_to))
        days = build_sequences.requested_days(lake, dataset, request.first, request.last, up_to)
        build_sequences.update(lake, dataset, days, DEFAULT_STEPS, request.code, opened, journeys=args.journeys)


if __name__ == "__main__":
    exit_with_one_line(main)

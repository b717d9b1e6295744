"""Raw log files to the tables `exposures` and `quarantine`, for a range of days.

    spark-submit jobs/build_exposures.py --dataset kuairand --raw RAW --lake lake [--from DAY] [--to DAY]

Refused rows whose day cannot be read, or lies outside the days of the rows that are not refused, are published
as the quarantine partition `undated` by every run.
"""

from dataclasses import dataclass
from pathlib import Path

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from jobs.arguments import add_lake, add_range, dataset_of, lake_of, parser, range_of
from jobs.exposures import DS, DUPLICATE, FATE, KEPT, RAW, REASON, REFUSED, days_of, log_span, with_fate
from jobs.lake_io import publish_days
from jobs.raw_files import SOURCE, RawFiles, find_raw_files, raw_paths, read_raw
from jobs.session import spark_session
from schemas.errors import UserError, exit_with_one_line
from schemas.paths import UNDATED, days_between
from schemas.publishing import file_sha256
from schemas.tables.exposures import exposures
from schemas.tables.quarantine import QUARANTINE


@dataclass(frozen=True, slots=True)
class DayCounts:
    """What became of one day's raw rows."""

    kept: int = 0
    duplicate: int = 0
    refused: int = 0

    def manifest(self) -> dict[str, int]:
        return {
            "rows_in": self.kept + self.duplicate + self.refused,
            "duplicates": self.duplicate,
            "quarantined": self.refused,
        }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--raw", required=True, type=Path, help="folder of the raw files")
    add_lake(arguments)
    add_range(arguments)
    args = arguments.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    first, last = range_of(args)
    files = find_raw_files(dataset, args.raw)

    with spark_session(f"exposures {dataset.name}", raw_paths(files)) as spark:
        rows = with_fate(spark, dataset, {view: read_raw(spark, f) for view, f in files.items()})
        # One pass over the raw rows: the log's span is observed while the rows to publish are put aside.
        span = Observation()
        chosen = rows.observe(span, *log_span()).where(_between(first, last) | (F.col(FATE) == REFUSED))
        chosen.persist(StorageLevel.MEMORY_AND_DISK).count()
        low, high = days_of(span.get, rows)
        days = _days(low, high, first, last)
        in_log = F.when(F.col(DS).between(low, high), F.col(DS)).otherwise(UNDATED)
        in_range = chosen.withColumn(DS, in_log).where((F.col(DS) == UNDATED) | _between(first, last))
        counts = _count(in_range)
        inputs = _file_hashes(files)
        refused = in_range.where(F.col(FATE) == REFUSED).select(
            F.col(SOURCE).alias("source_file"), F.col(RAW).alias("raw"), F.col(REASON).alias("reason"), DS
        )
        publish_days(
            refused, lake, QUARANTINE, dataset.name, [*days, UNDATED],
            split_by="raw", order_by=("raw", "source_file", "reason"), inputs=lambda _: inputs,
            # An undated row belongs to the log as a whole.
            counts=lambda day: {"rows_in": span.get["rows"]} if day == UNDATED else {},
        )  # fmt: skip
        publish_days(
            in_range.where(F.col(FATE) == KEPT), lake, exposures(dataset), dataset.name, days,
            split_by="user_id", order_by=("user_id", "exposed_at_ms", "exposure_id"),
            inputs=lambda _: inputs, counts=lambda day: counts.get(day, DayCounts()).manifest(),
        )  # fmt: skip
    total = DayCounts(*(sum(getattr(c, f) for c in counts.values()) for f in ("kept", "duplicate", "refused")))
    print(
        f"exposures {dataset.name} {days[0]}..{days[-1]}: {total.manifest()['rows_in']:,} rows in = {total.kept:,} kept"
        f" + {total.duplicate:,} duplicates + {total.refused:,} quarantined"
    )


def _between(first: str | None, last: str | None) -> Column:
    inside = F.lit(True)
    if first:
        inside &= F.col(DS) >= first
    if last:
        inside &= F.col(DS) <= last
    return inside


def _count(rows: DataFrame) -> dict[str, DayCounts]:
    """Counts by day and fate: as many rows as there are days."""
    by_day: dict[str, dict[str, int]] = {}
    for row in rows.groupBy(DS, FATE).count().collect():
        by_day.setdefault(row[DS], {})[row[FATE]] = row["count"]
    return {
        day: DayCounts(fates.get(KEPT, 0), fates.get(DUPLICATE, 0), fates.get(REFUSED, 0))
        for day, fates in by_day.items()
    }


def _days(low: str, high: str, first: str | None, last: str | None) -> list[str]:
    """The days to publish: a day inside the log without rows is a valid, empty day; one outside is an error."""
    for day in (first, last):
        if day and not low <= day <= high:
            raise UserError(f"{day} lies outside the log, which has the days {low} to {high}")
    return days_between(first or low, last or high)


def _file_hashes(files: dict[str, RawFiles]) -> dict[str, str]:
    return {f"raw/{path.name}": file_sha256(path) for path in raw_paths(files)}


if __name__ == "__main__":
    exit_with_one_line(main)

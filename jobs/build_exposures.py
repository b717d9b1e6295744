"""Raw log files to the tables `exposures` and `quarantine`, for a range of days.

    spark-submit jobs/build_exposures.py --dataset kuairand --raw RAW --lake lake
        [--from DAY] [--to DAY] [--this-code] | [--up-to DAY]

--up-to DAY: that day, and all days before it that the lake holds or should hold, since the day's journeys rest on
them; this is how rows that come late reach the lake. A day whose raw rows are as they were when it was built is left
alone. Where a file that held some of them is gone, its rows stay as they were published. Refused rows whose day cannot
be read, or lies outside the days of the rows that are not refused, are published as the quarantine partition `undated`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.raw.exposures import (
    DS,
    REASON,
    days_of,
    kept,
    log_span,
    refused,
    rows_by_file,
    to_keep,
    with_reason,
)
from jobs.raw.files import RawFiles, find_raw_files, raw_paths, read_raw
from jobs.raw.index import RawIndex, scanned, split_by_change, stamp, store_index, stored_index
from jobs.spark.partitions import day_chunks, publish_days, read_published
from jobs.spark.progress import describe_job
from jobs.spark.session import spark_session
from jobs.spark.worker_tables import starting_workers
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
from lakehouse.locks import locked
from lakehouse.manifest import Manifest
from lakehouse.staging import require_lake
from schemas.contract import Table
from schemas.dataset import Dataset
from schemas.days import UNDATED, checked_day, day_plus, days_between
from schemas.errors import NothingToDo, NothingToDoYet, UserError, exit_with_one_line
from schemas.tables import EXPOSURES, QUARANTINE
from schemas.tables.exposures import exposures
from schemas.tables.quarantine import QUARANTINE_TABLE

RAW_INDEX = "raw_index"
_LATE_DAYS = 7  # a log that ended longer ago is none that goes on


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
    arguments = dataset_parser(__doc__)
    arguments.add_argument("--raw", required=True, type=Path, help="folder of the raw files")
    add_lake(arguments)
    add_day_range(arguments)
    add_this_code(arguments)
    arguments.add_argument("--up-to", metavar="DAY", help="that day, and what is stale or missing before it")
    args = arguments.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    first, last = day_range_of(args)
    up_to = checked_day(args.up_to) if args.up_to else None
    if up_to and (first or last):
        raise UserError("--up-to says all: leave --from and --to out")
    files = find_raw_files(dataset, args.raw)
    code = required_code_of(args, "jobs")
    require_lake(lake)  # the log is read before a lock is taken

    def days_of_run(index: RawIndex) -> list[str]:
        return days_up_to(lake, dataset.name, index, up_to) if up_to else days_asked(index, first, last)

    index, changed = split_by_change(dataset, files, stored_index(lake, dataset.name))
    built: list[str] = []
    if changed or to_build(lake, dataset.name, index, days_of_run(index), code, up_to):
        with spark_session(f"exposures {dataset.name}", raw_paths(files)) as spark, starting_workers(spark):
            log = RawLog(spark, dataset, files)
            index = read_changed(lake, log)
            days = days_of_run(index)
            if wanted := to_build(lake, dataset.name, index, days, code, up_to):
                with locked(lake, (EXPOSURES, QUARANTINE), dataset, wanted):
                    # Another run may have built them while this one waited.
                    built = to_build(lake, dataset.name, index, days, code, up_to)
                    if built:
                        build(lake, log, index, built)
    days = days_of_run(index)
    if fresh := len(set(days) - set(built)):
        print(f"exposures {dataset.name} {days[0]}..{days[-1]}: {fresh} of {len(days)} days are fresh and left alone")
    if up_to:
        report_others(lake, dataset.name, index, up_to, [day for day in built if day not in (up_to, UNDATED)])


class RawLog:
    """The log's rows after jobs.raw.exposures.to_keep; the latest read is cached, so that each file is read once."""

    def __init__(self, spark: SparkSession, dataset: Dataset, files: Mapping[str, RawFiles]) -> None:
        self.dataset, self.files = dataset, files
        self.spark = spark
        self._names: set[str] = set()
        self._rows: DataFrame | None = None

    def rows(self, names: set[str], wanted: Column | None = None) -> DataFrame:
        """Those of the log files of these names (of the first one where there are none), lookups joined.

        wanted: a condition on DS; no others are needed. There may be other rows, and rows of other files, too.
        """
        if self._rows is None or not names <= self._names:
            if self._rows is not None:
                self._rows.unpersist()
            log = self.files[self.dataset.log.view]
            chosen = tuple(path for path in log.paths if path.name in names) or log.paths[:1]
            views = {**self.files, self.dataset.log.view: RawFiles(log.layout, chosen)}
            raw = {view: read_raw(self.spark, group) for view, group in views.items()}
            found = with_reason(self.spark, self.dataset, raw)
            found = found if wanted is None else found.where(wanted)  # before the rows become wide and are kept
            self._rows = to_keep(found).persist(StorageLevel.MEMORY_AND_DISK)
            self._names = {path.name for path in chosen} if wanted is None else set()
        return self._rows


def read_changed(lake: Lake, log: RawLog) -> RawIndex:
    """The raw index as the log is now: files that have changed since it was stored are read. Stores it."""
    dataset, files = log.dataset, log.files
    with locked(lake, (RAW_INDEX,), dataset, [UNDATED]):
        index, changed = split_by_change(dataset, files, stored_index(lake, dataset.name))
        if changed:
            # Before the files are read: one that changes meanwhile is read again next time.
            stamps = {path.name: stamp(path) for path in changed}
            rows = log.rows(set(stamps))
            describe_job(log.spark, "reading the log")
            index = scanned(index, stamps, rows_by_file(rows).collect())
            if index.span is None:
                days_of(rows.agg(*log_span()).first(), rows)  # says why
            store_index(lake, dataset.name, index)
    return index


def days_asked(index: RawIndex, first: str | None, last: str | None) -> list[str]:
    """The days to publish: a day inside the log without rows is a valid, empty day; one outside is an error."""
    low, high = _span(index)
    for day in (first, last):
        if day and not low <= day <= high:
            raise UserError(f"{day} lies outside the log, which has the days {low} to {high}")
    return days_between(first or low, last or high)


def days_up_to(lake: Lake, dataset: str, index: RawIndex, day: str) -> list[str]:
    """From the first day that the lake holds (an empty lake: that the log has) to this one.

    NothingToDo where the log does not reach that day, NothingToDoYet where its latest days are so recent that it
    still may.
    """
    low, high = _span(index)
    if not (low <= day <= high and index.has_come(day)):
        may_come = low <= day <= day_plus(high, _LATE_DAYS)
        raise (NothingToDoYet if may_come else NothingToDo)(
            f"the log has the days {low} to {high}, and so far no row of {day}"
        )
    held = lake.days(EXPOSURES, dataset)
    return days_between(max(low, min(day, held[0])) if held else low, day)


def _span(index: RawIndex) -> tuple[str, str]:
    # A log without a usable row never gets as far as an index.
    return index.span or ("", "")


def stale_days(lake: Lake, dataset: str, index: RawIndex, days: Iterable[str], code: str | None) -> list[str]:
    """Those of the days whose exposures or quarantine do not match the raw rows; UNDATED with them."""

    def fresh(table: str, day: str) -> bool:
        return lake[table, dataset, day].is_fresh(index.inputs(day), this_code=code)

    stale = [day for day in days if not (fresh(EXPOSURES, day) and fresh(QUARANTINE, day))]
    return stale if fresh(QUARANTINE, UNDATED) else [*stale, UNDATED]


def to_build(
    lake: Lake, dataset: str, index: RawIndex, days: Iterable[str], code: str | None, up_to: str | None
) -> list[str]:
    """The stale days, without those that cannot be built any more, as a file that held some of their rows is gone.

    Of an earlier day than --up-to names a line says so; it stays as it is. Otherwise it is a UserError.
    """
    stale = stale_days(lake, dataset, index, days, code)
    held = {day: files for day in stale if (files := lost_from(lake, dataset, index, day))}
    for day, files in held.items():
        line = (
            f"{day} is to be built again, but {', '.join(files[:3])}, which held some of its rows, is no longer there: "
            "put it back, or leave it with its header alone to withdraw the rows"
        )
        if up_to is None or day == up_to:
            raise UserError(line)
        print(f"note: {line}; until then the day stays as it is")
    return [day for day in stale if day not in held]


def lost_from(lake: Lake, dataset: str, index: RawIndex, day: str) -> list[str]:
    """The files that held rows of this day and are gone, unless their rows can be taken from the lake.

    That is where the day was published with them, and of the files that are there has only got more: which of the
    published rows are those of a file that has changed since, nobody can tell.
    """
    gone, now = index.gone_from(day), index.inputs(day)
    tables = (QUARANTINE,) if day == UNDATED else (EXPOSURES, QUARANTINE)
    for manifest in (lake[table, dataset, day].manifest for table in tables):
        then = manifest.inputs if manifest else {}
        if not (then.items() <= now.items() and {f"raw/{name}" for name in gone} <= then.keys()):
            return gone
    return []


def build(lake: Lake, log: RawLog, index: RawIndex, days: list[str]) -> None:
    """Publish the exposures and the quarantine of these days (UNDATED among them: of that only the quarantine)."""
    dataset = log.dataset
    in_log = F.when(F.col(DS).between(*_span(index)), F.col(DS)).otherwise(UNDATED)
    # Rows of files that are gone come from the lake. Copies are found among them as if the files were there.
    files, gone = index.files_of(days) - set(index.gone), {day for day in days if index.gone_from(day)}
    rows = _of(log.rows(files, in_log.isin(days)).withColumn(DS, in_log), days)

    def published(table: Table, days: Sequence[str]) -> DataFrame | None:
        held = [day for day in days if day in gone]
        return read_published(log.spark, lake, table, dataset, held) if held else None

    describe_job(log.spark, "counting the days")
    usable = _usable_by_day(rows)
    quarantined: dict[str, Manifest] = {}
    for some in day_chunks(days):
        earlier = published(QUARANTINE_TABLE, some)
        if earlier is not None:
            earlier = earlier.where(F.col("source_file").isin(list(index.gone)))
        quarantined |= publish_days(
            log.spark, refused(_of(rows, some), earlier), lake, QUARANTINE_TABLE, dataset, some,
            inputs=index.inputs,
            # An undated row belongs to the log as a whole.
            counts=lambda day, _: {"rows_in": index.rows} if day == UNDATED else {},
        )  # fmt: skip

    def counted(day: str, kept: int) -> DayCounts:
        return DayCounts(kept, usable.get(day, 0) + index.usable_gone(day) - kept, quarantined[day].rows)

    dated = [day for day in days if day != UNDATED]
    counts = [DayCounts(refused=quarantined[UNDATED].rows)] if UNDATED in days else []
    table = exposures(dataset)
    for some in day_chunks(dated):
        manifests = publish_days(
            log.spark, kept(_of(rows, some), dataset, published(table, some)), lake, table, dataset, some,
            inputs=index.inputs, counts=lambda day, kept: counted(day, kept).manifest(),
        )  # fmt: skip
        counts += [counted(day, manifest.rows) for day, manifest in manifests.items()]
    total = DayCounts(*(sum(getattr(c, f) for c in counts) for f in ("kept", "duplicate", "refused")))
    span = f"{dated[0]}..{dated[-1]}" if dated else UNDATED
    print(
        f"exposures {dataset.name} {span}: {total.manifest()['rows_in']:,} rows in = {total.kept:,} kept"
        f" + {total.duplicate:,} duplicates + {total.refused:,} quarantined"
    )


def _of(rows: DataFrame, days: Sequence[str]) -> DataFrame:
    return rows.where(F.col(DS).isin(*days))


def _usable_by_day(rows: DataFrame) -> dict[str, int]:
    """How many rows are not refused, copies included."""
    return {row[DS]: row["count"] for row in rows.where(F.col(REASON).isNull()).groupBy(DS).count().collect()}


def report_others(lake: Lake, dataset: str, index: RawIndex, day: str, built: list[str]) -> None:
    """A line on the days that this day's run has found changed: earlier ones, now built, and later ones."""
    if built:
        named = ", ".join(built[:5]) + (", ..." if len(built) > 5 else "")
        print(f"note: {len(built)} earlier days were missing or their raw rows have changed: {named}; see make status")
    later = [d for d in lake.days(EXPOSURES, dataset) if d > day]
    if stale := [d for d in stale_days(lake, dataset, index, later, None) if d != UNDATED]:
        print(f"note: the raw rows of {', '.join(stale[:5])} have changed since they were built; see make status")


if __name__ == "__main__":
    exit_with_one_line(main)

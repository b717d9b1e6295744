"""Publishes the exposures and the quarantine of days of a raw log, and prints the counts of its rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.raw.exposures import exposure_rows, exposures_in, quarantined_rows
from jobs.raw.files import file_headers
from jobs.raw.index import RawIndex, event_views
from jobs.raw.joins.outcomes import DUPLICATE, JOINED, JOINED_ROW, NO_EXPOSURE, join_outcomes
from jobs.raw.log import RawLog
from jobs.raw.reader.typed_rows import SOURCE
from jobs.raw.rows import DS
from jobs.spark.partitions import day_chunks, publish_days, read_published
from jobs.spark.progress import describe_job
from lakehouse.lake import Lake
from lakehouse.storage.delta_table import FilesByValue
from schemas.contract import Table
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.printable import counted
from schemas.tables import EXPOSURES, QUARANTINE
from schemas.tables.exposures import exposures
from schemas.tables.quarantine import QUARANTINE_TABLE


@dataclass(frozen=True, slots=True)
class DayCounts:
    """How many raw rows of a day became exposures, were duplicates, were joined as outcomes, or were quarantined."""

    exposures: int = 0
    duplicates: int = 0
    quarantined: int = 0
    outcomes: int = 0

    @property
    def rows_in(self) -> int:
        return self.exposures + self.duplicates + self.quarantined + self.outcomes

    def for_manifest(self) -> dict[str, int]:
        counts = {"rows_in": self.rows_in, "duplicates": self.duplicates, "quarantined": self.quarantined}
        return counts | {"outcomes": self.outcomes} if self.outcomes else counts


def publish_log(lake: Lake, log: RawLog, index: RawIndex, days: list[str]) -> None:
    """Publish both tables of these days. UNDATED may be among them and has a quarantine alone."""
    dataset = log.dataset
    replaces = {table: lake.present(table, dataset, days) for table in (EXPOSURES, QUARANTINE)}
    partition = F.when(F.col(DS).between(*index.span), F.col(DS)).otherwise(UNDATED)
    names = index.files_with(days) - set(index.removed)
    is_needed = partition.isin(days) | F.col(DS).isin(*index.days_read_for(days))
    rows = log.rows(names, is_needed)
    if dataset.outcomes:
        rows = _with_exposures_of_removed_files(lake, log, index, rows, days)
        rows = join_outcomes(rows, dataset).persist(StorageLevel.MEMORY_AND_DISK)
    rows = _rows_of(rows.withColumn(DS, partition), days)
    describe_job(log.spark, "counting the days")
    usable = _usable_rows_by_day(rows)
    outcomes = _outcomes_by_day(lake, log, index, rows, days) if dataset.outcomes else {}
    quarantined = _publish_quarantine(lake, log, index, rows, days, outcomes, replaces[QUARANTINE])

    def day_counts(day: str, exposures: int) -> DayCounts:
        # Usable rows outside the log's days are UNDATED here. They wait and are not duplicates.
        duplicates = 0 if day == UNDATED else usable.get(day, 0) + index.removed_usable_rows(day) - exposures
        joined, repeated = outcomes.get(day, (0, 0))
        return DayCounts(exposures, duplicates + repeated, quarantined[day], joined)

    dated = [day for day in days if day != UNDATED]
    table = exposures(dataset)
    counts = [day_counts(UNDATED, 0)] if UNDATED in days else []
    for day_chunk in day_chunks(dated):
        # Published exposures are among the rows if outcomes are joined with them.
        published = None if dataset.outcomes else _published_rows(lake, log, index, table, day_chunk)
        manifests = publish_days(
            log.spark, exposure_rows(_rows_of(rows, day_chunk), dataset, published), lake, table, dataset, day_chunk,
            inputs=index.inputs, replaces=replaces[EXPOSURES],
            counts=lambda day, exposures: day_counts(day, exposures).for_manifest(),
        )  # fmt: skip
        counts += [day_counts(day, manifest.rows) for day, manifest in manifests.items()]
    _print_total(dataset, f"{dated[0]}..{dated[-1]}" if dated else UNDATED, counts)


def _with_exposures_of_removed_files(
    lake: Lake, log: RawLog, index: RawIndex, rows: DataFrame, days: Sequence[str]
) -> DataFrame:
    """The rows, and published exposures of days that removed files had exposures of, or outcomes that may be theirs.

    An outcome of a present file may belong to the first; only the published exposure has the gain of a removed outcome.
    """
    needed = sorted(index.days_read_for(days) - {UNDATED})
    published_days = [d for d in needed if index.removed_gains(d) and lake[EXPOSURES, log.dataset, d].manifest]
    if not published_days:
        return rows
    published = read_published(log.spark, lake, exposures(log.dataset), log.dataset, published_days)
    return rows.unionByName(published, allowMissingColumns=True)


def _publish_quarantine(
    lake: Lake,
    log: RawLog,
    index: RawIndex,
    rows: DataFrame,
    days: Sequence[str],
    outcomes: Mapping[str, tuple[int, int]],
    replaces: FilesByValue,
) -> dict[str, int]:
    """The number of quarantined rows of each day."""
    quarantined = {}
    joined, repeated = outcomes.get(UNDATED, (0, 0))
    undated_outcomes = {"outcomes": joined, "duplicates": repeated} if joined or repeated else {}
    headers = {
        name: header for view in event_views(log.dataset) for name, header in file_headers(log.files[view]).items()
    }
    for day_chunk in day_chunks(days):
        published = _published_rows(lake, log, index, QUARANTINE_TABLE, day_chunk)
        if published is not None:
            published = published.where(F.col("source_file").isin(list(index.removed)))
        manifests = publish_days(
            log.spark, quarantined_rows(_rows_of(rows, day_chunk), headers, published), lake, QUARANTINE_TABLE,
            log.dataset, day_chunk, inputs=index.inputs, replaces=replaces,
            # An undated row belongs to the log as a whole.
            counts=lambda day, _: {"rows_in": index.rows, **undated_outcomes} if day == UNDATED else {},
        )  # fmt: skip
        quarantined |= {day: manifest.rows for day, manifest in manifests.items()}
    return quarantined


def _published_rows(lake: Lake, log: RawLog, index: RawIndex, table: Table, days: Sequence[str]) -> DataFrame | None:
    """The published rows of the days that had rows in removed files; None if there is no such day.

    Duplicates of these rows are recognised as if the files still existed.
    """
    incomplete = [day for day in days if index.removed_files_with(day)]
    return read_published(log.spark, lake, table, log.dataset, incomplete) if incomplete else None


def _rows_of(rows: DataFrame, days: Sequence[str]) -> DataFrame:
    return rows.where(F.col(DS).isin(*days))


def _usable_rows_by_day(rows: DataFrame) -> dict[str, int]:
    """The number of exposures among the rows of each day's files, duplicates included."""
    in_files = exposures_in(rows).where(F.col(SOURCE).isNotNull())
    return {row[DS]: row["count"] for row in in_files.groupBy(DS).count().collect()}


def _outcomes_by_day(
    lake: Lake, log: RawLog, index: RawIndex, rows: DataFrame, days: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """For each day, how many of its outcomes belong to an exposure, and how many are repeated rows.

    Outcomes of removed files were joined when they were published, or are in the published quarantine; repeated ones
    among them count as joined.
    """
    counts: dict[str, Counter[str]] = {day: Counter() for day in days}
    for row in rows.where(F.col(JOINED).isNotNull()).groupBy(DS, JOINED).count().collect():
        counts[row[DS]][row[JOINED]] = row["count"]
    removed = {day: count for day in days if (count := index.removed_outcome_rows(day))}
    published = read_published(log.spark, lake, QUARANTINE_TABLE, log.dataset, list(removed)) if removed else None
    if published is not None:
        is_lone = F.col("source_file").isin(list(index.removed)) & F.col("reason").startswith(NO_EXPOSURE)
        lone = {row[DS]: row["count"] for row in published.where(is_lone).groupBy(DS).count().collect()}
        for day, count in removed.items():
            counts[day][JOINED_ROW] += count - lone.get(day, 0)
    return {day: (count[JOINED_ROW], count[DUPLICATE]) for day, count in counts.items()}


def _print_total(dataset: Dataset, span: str, counts: Sequence[DayCounts]) -> None:
    total = DayCounts(*(sum(getattr(c, field.name) for c in counts) for field in fields(DayCounts)))
    outcomes = f" + {counted(total.outcomes, 'outcome')}" if dataset.outcomes else ""
    print(
        f"exposures {dataset.name} {span}: {counted(total.rows_in, 'row')} in = {counted(total.exposures, 'exposure')}"
        f" + {counted(total.duplicates, 'duplicate')}{outcomes} + {total.quarantined:,} quarantined"
    )

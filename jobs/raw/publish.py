"""Publishes the exposures and the quarantine of days of a raw log, and prints the counts of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.raw.exposures import exposure_rows, quarantined_rows
from jobs.raw.files import file_headers
from jobs.raw.index import RawIndex
from jobs.raw.lines import REASON
from jobs.raw.log import RawLog
from jobs.raw.rows import DS
from jobs.spark.partitions import day_chunks, publish_days, read_published
from jobs.spark.progress import describe_job
from lakehouse.lake import Lake
from schemas.contract import Table
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.tables.exposures import exposures
from schemas.tables.quarantine import QUARANTINE_TABLE


@dataclass(frozen=True, slots=True)
class DayCounts:
    """How many of one day's raw rows became exposures, were duplicates, or were quarantined."""

    exposures: int = 0
    duplicates: int = 0
    quarantined: int = 0

    @property
    def rows_in(self) -> int:
        return self.exposures + self.duplicates + self.quarantined

    def for_manifest(self) -> dict[str, int]:
        return {"rows_in": self.rows_in, "duplicates": self.duplicates, "quarantined": self.quarantined}


def publish_log(lake: Lake, log: RawLog, index: RawIndex, days: list[str]) -> None:
    """Publish both tables of these days. UNDATED may be among them and has a quarantine alone."""
    dataset = log.dataset
    partition = F.when(F.col(DS).between(*index.span), F.col(DS)).otherwise(UNDATED)
    names = index.files_with(days) - set(index.removed)
    rows = _rows_of(log.rows(names, partition.isin(days)).withColumn(DS, partition), days)
    describe_job(log.spark, "counting the days")
    usable = _usable_rows_by_day(rows)
    quarantined = _publish_quarantine(lake, log, index, rows, days)

    def day_counts(day: str, exposures: int) -> DayCounts:
        duplicates = usable.get(day, 0) + index.removed_usable_rows(day) - exposures
        return DayCounts(exposures, duplicates, quarantined[day])

    dated = [day for day in days if day != UNDATED]
    table = exposures(dataset)
    counts = [DayCounts(quarantined=quarantined[UNDATED])] if UNDATED in days else []
    for day_chunk in day_chunks(dated):
        published = _published_rows(lake, log, index, table, day_chunk)
        manifests = publish_days(
            log.spark, exposure_rows(_rows_of(rows, day_chunk), dataset, published), lake, table, dataset, day_chunk,
            inputs=index.inputs, counts=lambda day, exposures: day_counts(day, exposures).for_manifest(),
        )  # fmt: skip
        counts += [day_counts(day, manifest.rows) for day, manifest in manifests.items()]
    _print_total(dataset, f"{dated[0]}..{dated[-1]}" if dated else UNDATED, counts)


def _publish_quarantine(
    lake: Lake, log: RawLog, index: RawIndex, rows: DataFrame, days: Sequence[str]
) -> dict[str, int]:
    """The number of quarantined rows of each day."""
    quarantined = {}
    headers = file_headers(log.files[log.dataset.log.view])
    for day_chunk in day_chunks(days):
        published = _published_rows(lake, log, index, QUARANTINE_TABLE, day_chunk)
        if published is not None:
            published = published.where(F.col("source_file").isin(list(index.removed)))
        manifests = publish_days(
            log.spark, quarantined_rows(_rows_of(rows, day_chunk), headers, published), lake, QUARANTINE_TABLE,
            log.dataset, day_chunk, inputs=index.inputs,
            # An undated row belongs to the log as a whole.
            counts=lambda day, _: {"rows_in": index.rows} if day == UNDATED else {},
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
    """The number of usable rows of each day, duplicates included."""
    return {row[DS]: row["count"] for row in rows.where(F.col(REASON).isNull()).groupBy(DS).count().collect()}


def _print_total(dataset: Dataset, span: str, counts: Sequence[DayCounts]) -> None:
    total = DayCounts(*(sum(getattr(c, name) for c in counts) for name in ("exposures", "duplicates", "quarantined")))
    print(
        f"exposures {dataset.name} {span}: {total.rows_in:,} rows in = {total.exposures:,} exposures"
        f" + {total.duplicates:,} duplicates + {total.quarantined:,} quarantined"
    )

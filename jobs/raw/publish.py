"""Publishes the exposures and the quarantine of days of a raw log, and prints the counts of its rows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from pyspark import RDD

from jobs.raw.bucket_tables import BucketTables, JoinedRows
from jobs.raw.files import file_headers
from jobs.raw.index import RawIndex, event_views
from jobs.raw.joins.outcomes import DUPLICATE, JOINED_ROW, NO_EXPOSURE
from jobs.raw.log import USABLE, LogBlocks, NeededDays, RawLog
from jobs.spark.blocks import Block
from jobs.spark.buckets import files_by_day
from jobs.spark.files_per_day import store_files_per_day
from jobs.spark.partitions import commit_built_days
from jobs.spark.progress import describe_job
from lakehouse.lake import Lake
from lakehouse.storage.delta_table import FilesByValue
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.printable import counted
from schemas.tables import EXPOSURES, QUARANTINE
from schemas.tables.exposures import exposures, matches
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
    dataset, dated = log.dataset, [day for day in days if day != UNDATED]
    replaces = {table: lake.present(table, dataset, days) for table in (EXPOSURES, QUARANTINE)}
    files, counts = _store_tables(lake, log, index, days)
    usable = {day: counts[USABLE, day] for day in dated}
    outcomes = _outcomes_by_day(lake, dataset, index, counts, days)
    quarantined = {day: sum(file.rows for file in files.get(QUARANTINE, {}).get(day, ())) for day in days}

    def day_counts(day: str, exposures: int) -> DayCounts:
        # Usable rows outside the log's days wait and are not duplicates.
        duplicates = 0 if day == UNDATED else usable[day] + index.removed_usable_rows(day) - exposures
        joined, repeated = outcomes.get(day, (0, 0))
        return DayCounts(exposures, duplicates + repeated, quarantined[day], joined)

    def quarantine_counts(day: str, _: int) -> dict[str, int]:
        if day != UNDATED:
            return {}
        joined, repeated = outcomes.get(UNDATED, (0, 0))
        undated_outcomes = {"outcomes": joined, "duplicates": repeated} if joined or repeated else {}
        return {"rows_in": index.rows, **undated_outcomes}  # an undated row belongs to the log as a whole

    store_files_per_day(lake, dataset, log.buckets)
    commit_built_days(
        lake, QUARANTINE_TABLE, dataset, days, files.get(QUARANTINE, {}), inputs=index.inputs,
        replaces=replaces[QUARANTINE], counts=quarantine_counts,
    )  # fmt: skip
    manifests = commit_built_days(
        lake, exposures(dataset), dataset, dated, files.get(EXPOSURES, {}), inputs=index.inputs,
        replaces=replaces[EXPOSURES], counts=lambda day, exposures: day_counts(day, exposures).for_manifest(),
    )  # fmt: skip
    totals = [day_counts(UNDATED, 0)] if UNDATED in days else []
    totals += [day_counts(day, manifest.rows) for day, manifest in manifests.items()]
    _print_total(dataset, f"{dated[0]}..{dated[-1]}" if dated else UNDATED, totals)


def _store_tables(
    lake: Lake, log: RawLog, index: RawIndex, days: Sequence[str]
) -> tuple[dict[str, FilesByValue], Counter[tuple[str, str]]]:
    """The stored files of both tables by day, and the numbers of rows by kind and day."""
    dataset, span = log.dataset, index.span or ("", "")
    needed = NeededDays(frozenset(days) | index.days_read_for(days), span)
    blocks = log.blocks(index.files_with(days) - set(index.removed), needed)
    pairs = _joined(lake, blocks, index, days) if dataset.outcomes else blocks.pairs
    incomplete = [day for day in days if index.removed_files_with(day)]
    published = {table: lake.present(table, dataset, incomplete) for table in (EXPOSURES, QUARANTINE)}
    if dataset.outcomes:
        published[EXPOSURES] = {}  # they are among the joined rows
    task = BucketTables(
        dataset=dataset,
        folders={table: str(lake.table(table, dataset)) for table in published},
        days=tuple(days),
        span=span,
        published=published,
        removed=tuple(index.removed),
        headers={n: header for v in event_views(dataset) for n, header in file_headers(log.files[v]).items()},
        partitions=blocks.partitions,
    )
    describe_job(log.spark, "writing exposures")
    written = pairs.mapPartitionsWithIndex(task)
    results = log.spark.runJob(written, list, range(blocks.partitions.number))
    counts: Counter[tuple[str, str]] = Counter()
    for (kind, day), rows in sum((r for r in results if isinstance(r, Counter)), Counter()).items():
        counts[kind, day if day and span[0] <= day <= span[1] else UNDATED] += rows
    return files_by_day(results), counts


def _joined(lake: Lake, blocks: LogBlocks, index: RawIndex, days: Iterable[str]) -> "RDD[tuple[int, Block]]":
    """The rows with the gains of their outcomes, in the partitions whose tasks write them.

    Published exposures are joined as well, of days that removed files had exposures of, or outcomes that may be theirs:
    an outcome of a present file may belong to the first; only the published exposure has the gain of a removed outcome.
    """
    dataset, pairs = blocks.dataset, blocks.pairs
    needed = sorted(index.days_read_for(days) - {UNDATED})
    published_days = [d for d in needed if index.removed_gains(d) and lake[EXPOSURES, dataset, d].manifest]
    published = lake.present(EXPOSURES, dataset, published_days)
    folder = str(lake.table(EXPOSURES, dataset))
    for match in range(len(matches(dataset))):
        task = JoinedRows(dataset, match, blocks.partitions, folder, published if match == 0 else {})
        pairs = pairs.mapPartitionsWithIndex(task).partitionBy(blocks.partitions.number, int)
    return pairs


def _outcomes_by_day(
    lake: Lake, dataset: Dataset, index: RawIndex, counts: Counter[tuple[str, str]], days: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """For each day, how many of its outcomes belong to an exposure, and how many are repeated rows.

    Outcomes of removed files were joined when they were published, or are in the published quarantine; repeated ones
    among them count as joined. counts: by kind and day.
    """
    joined = {day: counts[JOINED_ROW, day] for day in days}
    for day in days:
        if removed := index.removed_outcome_rows(day):
            partition = lake[QUARANTINE, dataset, day]
            published = partition.read(["source_file", "reason"]).to_pylist() if partition.manifest else []
            lone = sum(
                row["source_file"] in index.removed and row["reason"].startswith(NO_EXPOSURE) for row in published
            )
            joined[day] += removed - lone
    return {day: (joined[day], counts[DUPLICATE, day]) for day in days}


def _print_total(dataset: Dataset, span: str, counts: Sequence[DayCounts]) -> None:
    total = DayCounts(*(sum(getattr(c, field.name) for c in counts) for field in fields(DayCounts)))
    outcomes = f" + {counted(total.outcomes, 'outcome')}" if dataset.outcomes else ""
    print(
        f"exposures {dataset.name} {span}: {counted(total.rows_in, 'row')} in = {counted(total.exposures, 'exposure')}"
        f" + {counted(total.duplicates, 'duplicate')}{outcomes} + {total.quarantined:,} quarantined"
    )

"""The table `item_history` of a range of days, from the newest earlier one and the counts of the exposures since."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.item_history import ItemCounts, fold_item_history
from jobs.spark.partitions import commit_built_days
from lakehouse.lake import DS, Lake
from lakehouse.published_days import newest_fresh_day
from lakehouse.rows import arrow_schema
from lakehouse.storage.data_files import read_file, store_file, store_table
from lakehouse.storage.delta_table import DataFile, FilesByValue
from lakehouse.storage.scratch import work_folder
from schemas.dataset import Dataset
from schemas.tables import EXPOSURES, ITEM_HISTORY
from schemas.tables.item_history import item_history

_COUNTS = "counts"  # the folder of CountFiles


class Fold(NamedTuple):
    """How the history of a day is made.

    start: the day whose history it starts with, None to continue with that of the fold before. new_days: the days
    whose exposures are added to it.
    """

    day: str
    start: str | None
    new_days: list[str]


class CountFiles(NamedTuple):
    """The item counts of some days of one bucket, in two files: they may be larger than the results of a Spark job.

    No commit names these files, so maintenance removes them with the other leftovers of a table.
    """

    days: tuple[str, ...]
    counts: DataFile
    late_gains: DataFile

    @classmethod
    def store(cls, folder: Path, days: Sequence[str], items: ItemCounts) -> "CountFiles":
        """folder: of the table `item_history`."""
        return cls(tuple(days), *(store_table(folder, _COUNTS, rows) for rows in items))

    def read(self, folder: Path) -> ItemCounts:
        return ItemCounts(read_file(folder, self.counts), read_file(folder, self.late_gains))


def planned_folds(lake: Lake, dataset: Dataset, days: Sequence[str], required_code: str | None) -> list[Fold]:
    """A fold for each of these days, oldest first. The exposures of each day are counted once.

    Raises UserError if the audit of one of these exposures failed.
    """
    with_exposures = lake.days(EXPOSURES, dataset)
    folds: list[Fold] = []
    folded_to = ""
    for day in days:
        start = None
        if folded_to != max((d for d in with_exposures if d < day), default=""):
            # Days between may be fresh: then the newest of them is read, and not their exposures.
            fresh_day = newest_fresh_day(lake, ITEM_HISTORY, dataset, day, required_code)
            if fresh_day and fresh_day > folded_to:
                start = folded_to = fresh_day
        new_days = [d for d in with_exposures if folded_to < d <= day]
        for new_day in new_days:
            lake[EXPOSURES, dataset, new_day].require()
        folds.append(Fold(day, start, new_days))
        folded_to = day
    return folds


def publish_item_history(
    lake: Lake,
    dataset: Dataset,
    folds: Sequence[Fold],
    counts: Sequence[CountFiles],
    *,
    inputs: Callable[[str], Mapping[str, str]],
    replaces: FilesByValue,
) -> None:
    """Publish the history as of the end of the day of each fold, in one commit.

    counts: of all new_days and buckets. inputs: of each day, the fingerprints of all exposures up to it. replaces:
    the present files of these days.
    """
    files = {day: (_stored(lake, dataset, day, history),) for day, history in _histories(lake, dataset, folds, counts)}
    commit_built_days(lake, item_history(dataset), dataset, list(files), files, inputs=inputs, replaces=replaces)


def _histories(
    lake: Lake, dataset: Dataset, folds: Sequence[Fold], counts: Sequence[CountFiles]
) -> Iterator[tuple[str, pa.Table]]:
    history, counts_of = None, _CountsByDay(lake.table(ITEM_HISTORY, dataset), counts)
    for fold in folds:
        start = history if fold.start is None else lake[ITEM_HISTORY, dataset, fold.start].read()
        history = fold_item_history(start, filter(None, map(counts_of, fold.new_days)), dataset, fold.day)
        yield fold.day, history


class _CountsByDay:
    """Reads the counts of a day. The files of one part of the days are in memory at a time."""

    def __init__(self, folder: Path, files: Sequence[CountFiles]) -> None:
        self._folder = folder
        self._files: dict[str, list[CountFiles]] = {}
        for file in files:
            for day in file.days:
                self._files.setdefault(day, []).append(file)
        self._read: list[CountFiles] = []
        self._by_day: dict[str, ItemCounts] = {}

    def __call__(self, day: str) -> ItemCounts | None:
        """None for a day without exposures."""
        files = self._files.get(day, [])
        if files != self._read:
            self._read, self._by_day = files, _by_day([file.read(self._folder) for file in files]) if files else {}
        return self._by_day.get(day)


def _by_day(counts: Sequence[ItemCounts]) -> dict[str, ItemCounts]:
    """All counts, by day."""
    values, late_gains = (_rows_by_day(pa.concat_tables(tables)) for tables in zip(*counts, strict=True))
    no_gains = counts[0].late_gains.slice(0, 0)
    return {day: ItemCounts(rows, late_gains.get(day, no_gains)) for day, rows in values.items()}


def _rows_by_day(rows: pa.Table) -> dict[str, pa.Table]:
    coded = rows.column(DS).combine_chunks().dictionary_encode()
    day_R = coded.indices.to_numpy()
    rows = rows.take(pa.array(np.argsort(day_R, kind="stable")))
    count_D = np.bincount(day_R, minlength=len(coded.dictionary))
    starts = np.cumsum(count_D) - count_D
    return {
        day: rows.slice(start, count)
        for day, start, count in zip(coded.dictionary.to_pylist(), starts, count_D, strict=True)
    }


def _stored(lake: Lake, dataset: Dataset, day: str, history: pa.Table) -> DataFile:
    table = item_history(dataset)
    with work_folder() as staged:
        file = staged / "part-0.parquet"
        rows = history.select(table.column_names).cast(arrow_schema(table))
        pq.write_table(rows, file, compression="zstd", store_schema=False, write_page_checksum=True)
        return store_file(lake.table(ITEM_HISTORY, dataset), f"{DS}={day}", file)

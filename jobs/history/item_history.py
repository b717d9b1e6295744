"""The table `item_history` of a range of days, from the newest earlier one and the counts of the exposures since."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.item_history import ItemCounts, fold_item_history
from jobs.spark.partitions import commit_built_days
from lakehouse.lake import DS, Lake
from lakehouse.published_days import newest_fresh_day
from lakehouse.rows import arrow_schema
from lakehouse.storage.data_files import store_file
from lakehouse.storage.delta_table import DataFile, FilesByValue
from lakehouse.storage.scratch import work_folder
from schemas.dataset import Dataset
from schemas.tables import EXPOSURES, ITEM_HISTORY
from schemas.tables.item_history import item_history


class Fold(NamedTuple):
    """How the history of a day is made.

    start: the history of an earlier day, None to continue with that of the fold before. new_days: the days whose
    exposures are added to it.
    """

    day: str
    start: pa.Table | None
    new_days: list[str]


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
                start, folded_to = lake[ITEM_HISTORY, dataset, fresh_day].read(), fresh_day
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
    counts: Sequence[ItemCounts],
    *,
    inputs: Callable[[str], Mapping[str, str]],
    replaces: FilesByValue,
) -> None:
    """Publish the history as of the end of the day of each fold, in one commit.

    counts: of all new_days, in any parts. inputs: of each day, the fingerprints of all exposures up to it. replaces:
    the present files of these days.
    """
    files = {day: (_stored(lake, dataset, day, history),) for day, history in _histories(dataset, folds, counts)}
    commit_built_days(lake, item_history(dataset), dataset, list(files), files, inputs=inputs, replaces=replaces)


def _histories(dataset: Dataset, folds: Sequence[Fold], counts: Sequence[ItemCounts]) -> Iterator[tuple[str, pa.Table]]:
    history, by_day = None, _by_day(counts)
    for fold in folds:
        new = [by_day[day] for day in fold.new_days if day in by_day]
        history = fold_item_history(history if fold.start is None else fold.start, new, dataset, fold.day)
        yield fold.day, history


def _by_day(counts: Sequence[ItemCounts]) -> dict[str, ItemCounts]:
    """All counts, by day."""
    if not counts:
        return {}
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

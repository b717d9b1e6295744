"""The table `item_history` of a range of days, from the newest earlier one and the exposures since. Needs no Spark."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from features.item_history import fold_item_history, history_columns
from jobs.spark.partitions import commit_built_days
from lakehouse.lake import DS, Lake
from lakehouse.published_days import newest_fresh_day
from lakehouse.reading import read_tables, rechunk
from lakehouse.rows import arrow_schema
from lakehouse.storage.data_files import store_file
from lakehouse.storage.delta_table import DataFile
from lakehouse.storage.scratch import work_folder
from schemas.dataset import Dataset
from schemas.tables import EXPOSURES, ITEM_HISTORY
from schemas.tables.item_history import item_history

_ROWS_PER_READ, _ROWS_PER_FOLD = 65_536, 262_144


def publish_item_history(
    lake: Lake,
    dataset: Dataset,
    days: Sequence[str],
    inputs: Mapping[str, Mapping[str, str]],
    required_code: str | None,
) -> None:
    """Publish the history as of the end of each of these days, in one commit.

    inputs: of each day, the fingerprints of all exposures up to it.
    """
    replaces = lake.present(ITEM_HISTORY, dataset, days)
    files = {
        day: (_stored(lake, dataset, day, history),) for day, history in _histories(lake, dataset, days, required_code)
    }
    commit_built_days(lake, item_history(dataset), dataset, days, files, inputs=inputs.__getitem__, replaces=replaces)


def _histories(
    lake: Lake, dataset: Dataset, days: Sequence[str], required_code: str | None
) -> Iterator[tuple[str, pa.Table]]:
    """Each of these days with its history, oldest first. The exposures of a run of days are read once."""
    with_exposures = lake.days(EXPOSURES, dataset)
    history, folded_to = None, ""
    for day in days:
        if folded_to != max((d for d in with_exposures if d < day), default=""):
            # Days between may be fresh: then the newest of them is read, and not their exposures.
            fresh_day = newest_fresh_day(lake, ITEM_HISTORY, dataset, day, required_code)
            if fresh_day and fresh_day > folded_to:
                history, folded_to = lake[ITEM_HISTORY, dataset, fresh_day].read(), fresh_day
        new_days = [d for d in with_exposures if folded_to < d <= day]
        for read_day in new_days:
            lake[EXPOSURES, dataset, read_day].require()
        partitions = [lake[EXPOSURES, dataset, read_day] for read_day in new_days]
        # The files of a small day are counted together.
        exposures = rechunk(read_tables(partitions, history_columns(dataset), _ROWS_PER_READ), _ROWS_PER_FOLD)
        history, folded_to = fold_item_history(history, exposures, dataset, day), day
        yield day, history


def _stored(lake: Lake, dataset: Dataset, day: str, history: pa.Table) -> DataFile:
    table = item_history(dataset)
    with work_folder() as staged:
        file = staged / "part-0.parquet"
        rows = history.select(table.column_names).cast(arrow_schema(table))
        pq.write_table(rows, file, compression="zstd", store_schema=False)
        return store_file(lake.table(ITEM_HISTORY, dataset), f"{DS}={day}", file)

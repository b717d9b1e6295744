"""The table `item_history` of a day, from the newest earlier one and the exposures since. Needs no Spark."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from features.item_history import fold_item_history, history_columns
from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.published_days import days_before, newest_fresh_day
from lakehouse.reading import read_tables
from lakehouse.rows import arrow_schema
from lakehouse.storage.scratch import work_folder
from schemas.dataset import Dataset
from schemas.tables import EXPOSURES, ITEM_HISTORY
from schemas.tables.item_history import item_history

_ROWS_PER_READ = 65_536


def publish_item_history(
    lake: Lake, dataset: Dataset, day: str, inputs: Mapping[str, str], required_code: str | None
) -> Manifest:
    """Publish the history as of the end of the day. inputs: the fingerprints of all exposures up to the day."""
    earlier, days = _newest_fresh_history(lake, dataset, day, required_code)
    for read_day in days:
        lake[EXPOSURES, dataset, read_day].require()
    exposures = read_tables(
        [lake[EXPOSURES, dataset, read_day] for read_day in days], history_columns(dataset), _ROWS_PER_READ
    )
    history = fold_item_history(earlier, exposures, dataset, day)
    table = item_history(dataset)
    with work_folder() as staged:
        rows = history.select(table.column_names).cast(arrow_schema(table))
        pq.write_table(rows, staged / "part-0.parquet", compression="zstd", store_schema=False)
        return lake[ITEM_HISTORY, dataset, day].publish(staged, inputs=inputs, code=code_version("jobs"))


def _newest_fresh_history(
    lake: Lake, dataset: Dataset, day: str, required_code: str | None
) -> tuple[pa.Table | None, list[str]]:
    """The newest history before `day` that still matches the exposures, and the days of exposures since then."""
    exposure_days = [*days_before(lake, dataset, day), day]
    earlier_day = newest_fresh_day(lake, ITEM_HISTORY, dataset, day, required_code)
    if earlier_day is None:
        return None, exposure_days
    return lake[ITEM_HISTORY, dataset, earlier_day].read(), [d for d in exposure_days if d > earlier_day]

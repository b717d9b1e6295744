"""Publishes the nightly table of a method on candidates, from its champion."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.code_version import code_version
from lakehouse.journeys import journey_partitions
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.reading import consistent_read
from lakehouse.storage.scratch import work_folder
from mtorl_model.methods.method import Method
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import EXPOSURES, ITEM_HISTORY, JOURNEYS

_INPUTS = (JOURNEYS, EXPOSURES, ITEM_HISTORY)


def publish_scores_of_candidates(
    lake: Lake,
    dataset: Dataset,
    table: str,
    day: str,
    registered: str,
    load_champion: Callable[[], tuple[str, Method]],
    make_table: Callable[[Lake, Dataset, Method, str, str], pa.Table],
) -> Manifest:
    """Publish a table of a day by the champion of a registered model (rmtl_kuairand), unless it is fresh.

    load_champion: its version and model. make_table: the rows, of lake, dataset, model, version and day. Scores that a
    version of the registered model made from the present inputs stay, on the newest day only those of the champion. So
    a new champion does not change earlier days. Raises UserError if an input of the day is missing or a number is not
    finite; Busy if an input is published again in the meantime.
    """
    partition = lake[table, dataset, day]
    for name in _INPUTS:
        lake[name, dataset, day].require()
    same_day = (lake[name, dataset, day] for name in _INPUTS if name != JOURNEYS)
    with consistent_read([*journey_partitions(lake, dataset, day), *same_day]):
        inputs, published = partition.current_inputs(), partition.manifest
        made_by = published.inputs.get("model", "") if published else ""
        fresh = published if published and published.is_fresh({**inputs, "model": made_by}) else None
        is_newest = lake.days(JOURNEYS, dataset)[-1] == day
        if fresh and not is_newest and made_by.startswith(f"{registered}/"):
            return fresh
        version, model = load_champion()
        if fresh and made_by == version:
            return fresh
        rows = make_table(lake, dataset, model, version, day)
    if not _is_finite(rows):
        raise UserError(f"model {version} predicts no finite numbers on {day}: train it again (make run)")
    with work_folder() as staged:
        pq.write_table(rows, staged / "part-0.parquet", write_page_checksum=True)
        return partition.publish(staged, inputs={**inputs, "model": version}, code=code_version("mtorl_model"))


def _is_finite(rows: pa.Table) -> bool:
    numbers = [column for column in rows.columns if pa.types.is_floating(column.type)]
    return all(pc.all(pc.is_finite(column), min_count=0).as_py() for column in numbers)

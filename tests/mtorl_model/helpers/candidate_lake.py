"""A small lake with everything that a method on candidates reads, without Spark: three days of Criteo."""

from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import synthetic
from random_exposures import day, random_exposures
from user_chunks import user_chunk

from features.item_history import count_items, fold_item_history
from features.point_in_time import JOURNEY_POSITION, point_in_time_steps
from features.visibility import STRICTLY_BEFORE
from jobs.history.windows import cut_windows
from lakehouse.arrow_types import arrow_type
from lakehouse.lake import Lake
from lakehouse.storage.scratch import work_folder
from schemas.contract import Column
from schemas.dataset import get_dataset
from schemas.steps import DEFAULT_STEPS, input_columns, next_step_type, profile_inputs
from schemas.tables import EXPOSURES, ITEM_HISTORY, JOURNEYS, SEQUENCES, STEPS
from schemas.tables.exposures import exposures
from schemas.tables.item_history import item_history
from schemas.tables.sequences import sequences
from schemas.tables.steps import steps

CRITEO = get_dataset("criteo")
DAYS = tuple(day(k) for k in range(3))


def write_candidate_lake(root: Path, users: int = 120, rows: int = 900, parts: int = 1) -> Lake:
    """exposures, steps, sequences, item_history and feature_spec of three days; of journeys what the night reads.

    parts: the files of a day of exposures, and of steps, each with a share of the users.
    """
    lake = Lake(root)
    frame = random_exposures(CRITEO, users=users, rows=rows, days=len(DAYS), seed=5)
    chunk = user_chunk(frame, CRITEO, CRITEO.end_of_day_ms(DAYS[-1]))
    step_rows = point_in_time_steps(chunk, CRITEO, STRICTLY_BEFORE)
    exposure_steps = step_rows.slice(0, len(frame))
    position_N = exposure_steps.column(JOURNEY_POSITION).to_numpy()
    exposure_days, history = np.asarray(chunk.exposures.column("ds")), None
    for ds in DAYS:
        day_rows = chunk.exposures.filter(exposure_days == ds)
        part_N = np.array([crc32(str(user).encode()) % parts for user in day_rows.column("user_id").to_pylist()])
        _publish(lake, EXPOSURES, ds, exposures(CRITEO).columns, day_rows, part_N)
        _publish(lake, STEPS, ds, steps(CRITEO).columns, exposure_steps.filter(exposure_days == ds), part_N)
        windows = cut_windows(chunk, position_N, CRITEO, DEFAULT_STEPS, [ds])
        _publish(lake, SEQUENCES, ds, sequences(CRITEO).columns, windows)
        history = fold_item_history(history, [count_items(day_rows, CRITEO)], CRITEO, ds)
        _publish(lake, ITEM_HISTORY, ds, item_history(CRITEO).columns, history)
    queries = step_rows.slice(len(frame))
    names = [column.name for column in input_columns(CRITEO)]
    next_step = pa.StructArray.from_arrays([queries.column(name).combine_chunks() for name in names], names)
    journeys = {"user_id": queries.column("user_id"), "next_step": next_step}
    journeys |= {column.name: queries.column(column.name) for column in profile_inputs(CRITEO)}
    columns = (
        CRITEO.user_id.column,
        Column("next_step", next_step_type(CRITEO), "inputs of the next step"),
        *profile_inputs(CRITEO),
    )
    _publish(lake, JOURNEYS, DAYS[-1], columns, pa.table(journeys))
    channels = pc.unique(chunk.exposures.column("channel")).drop_null().to_pylist()
    spec = synthetic.make_spec(CRITEO, DAYS[0], DAYS[-1])
    synthetic.publish_spec(lake, CRITEO, replace(spec, channels=tuple(sorted(channels))))
    return lake


def _publish(
    lake: Lake, table: str, ds: str, columns: tuple[Column, ...], rows: pa.Table, part_N: np.ndarray | None = None
) -> None:
    """part_N: the file of each row; None: one file."""
    schema = pa.schema([(column.name, arrow_type(column.dtype)) for column in columns])
    part_N = np.zeros(len(rows), int) if part_N is None else part_N
    with work_folder() as staged:
        for part in range(int(part_N.max(initial=0)) + 1):
            part_rows = rows.select(schema.names).cast(schema).filter(part_N == part)
            pq.write_table(part_rows, staged / f"part-{part}.parquet")
        lake[table, CRITEO, ds].publish(staged, inputs={}, code="0")

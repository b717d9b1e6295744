"""Chunks of users for the arithmetic in features/, made from pandas rows of the table `exposures`, without Spark."""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from features.point_in_time import point_in_time_steps
from features.user_chunk import DS, RUNNING_TOTALS, SUMMARY, UserChunk
from features.visibility import STRICTLY_BEFORE
from jobs.history.journey_steps import JourneySteps
from lakehouse.arrow_types import arrow_type
from schemas.dataset import Dataset
from schemas.steps import input_columns, profile_inputs
from schemas.tables.exposures import exposures
from schemas.tables.journeys import journeys


def user_chunk(frame: pd.DataFrame, dataset: Dataset, as_of_ms: int, summaries: pa.Table | None = None) -> UserChunk:
    """The chunk of all users. frame: contract columns of exposures plus ds. summaries: from summaries_of."""
    columns = {column.name: arrow_type(column.dtype) for column in exposures(dataset).columns} | {DS: pa.string()}
    plain = frame.astype(object).where(frame.notna(), None)
    rows = pa.table({name: pa.array(plain[name].tolist(), dtype) for name, dtype in columns.items()})
    rows = rows.append_column(SUMMARY, pa.nulls(len(rows), _summary_type(dataset)))
    if summaries is not None:
        rows = pa.concat_tables([summaries, rows], promote_options="default")
    rows = rows.append_column("_order", pc.cast(pc.is_null(rows.column(SUMMARY)), pa.int8()))
    order = [(name, "ascending") for name in ("user_id", "_order", "exposed_at_ms", "exposure_id")]
    return UserChunk.from_rows(rows.take(pc.sort_indices(rows, order)), as_of_ms)


def summaries_of(chunk: UserChunk, dataset: Dataset) -> pa.Table:
    """The journeys as of the end of the chunk, as rows that a later chunk begins with."""
    steps = point_in_time_steps(chunk, dataset, STRICTLY_BEFORE)
    memory = JourneySteps.from_chunk(chunk, steps, dataset).memory()
    queries = steps.slice(len(chunk.user_N)).to_pylist()
    inputs = [column.name for column in input_columns(dataset)]
    summaries = [
        {name: query[name] for name in RUNNING_TOTALS}
        | {"next_step": {name: query[name] for name in inputs}, "memory": remembered}
        | {"exposed_at_ms": remembered[-1]["exposed_at_ms"]}
        for query, remembered in zip(queries, memory.to_pylist(), strict=True)
    ]
    columns = {"user_id": chunk.user_id_U}
    for column in profile_inputs(dataset):
        columns[column.name] = pa.array([query[column.name] for query in queries], arrow_type(column.dtype))
    return pa.table(columns | {SUMMARY: pa.array(summaries, _summary_type(dataset))})


def exposure_steps(frame: pd.DataFrame, dataset: Dataset) -> pa.Table:
    """The steps of all exposures, with their outcomes and profiles. frame: contract columns of exposures plus ds."""
    chunk = user_chunk(frame, dataset, dataset.end_of_day_ms(frame.ds.max()))
    return point_in_time_steps(chunk, dataset, STRICTLY_BEFORE).slice(0, len(chunk.exposures))


def _summary_type(dataset: Dataset) -> pa.DataType:
    names = ("next_step", *RUNNING_TOTALS, "memory")
    fields = [(name, arrow_type(journeys(dataset).column(name).dtype)) for name in names]
    return pa.struct([*fields, ("exposed_at_ms", pa.int64())])

"""Predictions for given candidates: what each would bring if it were its user's next exposure.

The user's history is the journey at the end of a day, and the exposure begins a session. A user without a journey is
predicted as one at their very first exposure, whose profile is unknown.

Shapes: N candidates, T chances of each.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.arrow_types import arrow_type
from lakehouse.journeys import journey_partitions, read_journeys
from lakehouse.lake import Lake
from lakehouse.reading import consistent_read
from mtorl_model.inference.next_candidates import (
    candidate_columns,
    history_of,
    journey_inputs,
    next_rows,
    predicted_rows,
)
from mtorl_model.methods.method import Floats, Method
from schemas.contract import Column, Known
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import input_columns, next_step_type, profile_inputs
from schemas.tables import ITEM_HISTORY
from schemas.tables.exposures import exposures

_ROWS_AT_ONCE = 32_768


def predict_given(lake: Lake, dataset: Dataset, model: Method, candidates: pa.Table, day: str) -> tuple[Floats, int]:
    """The chance of each of model.label_names, (N, T), and the number of candidates whose user has no journey.

    candidates: user_id and the candidate's own columns. Raises UserError if a column is missing, has values of another
    type, or a user_id is missing; Busy if a table is published again in the meantime.
    """
    candidates = _checked(candidates, dataset)
    item_history = lake[ITEM_HISTORY, dataset, day]
    item_history.require()
    with consistent_read([*journey_partitions(lake, dataset, day), item_history]):
        journeys, history = (
            _journeys_of(lake, dataset, day, candidates.column("user_id")),
            history_of(lake, dataset, day),
        )
    index = pc.index_in(candidates.column("user_id"), value_set=journeys.column("user_id").combine_chunks())
    unknown = index.null_count
    row_N = np.asarray(pc.fill_null(index, len(journeys)))
    journeys = pa.concat_tables([journeys, empty_journey(dataset)])
    predicted = []
    for start in range(0, len(candidates), _ROWS_AT_ONCE):
        part = candidates.slice(start, _ROWS_AT_ONCE)
        users = journeys.take(pa.array(row_N[start : start + _ROWS_AT_ONCE]))
        users = users.set_column(0, "user_id", part.column("user_id"))
        rows = next_rows(users.combine_chunks(), part, history, dataset, dataset.end_of_day_ms(day))
        prediction = predicted_rows(rows, model, dataset)
        chances = prediction.gains_XG if prediction.fusion_XF is None else prediction.fused.objectives_XI
        assert chances is not None
        predicted.append(chances)
    empty = np.zeros((0, len(model.label_names)))
    return np.concatenate([empty, *predicted]), unknown


def empty_journey(dataset: Dataset) -> pa.Table:
    """A journey before the first exposure: counts are 0, all else is missing; user_id is null."""
    context = {column.name for column in dataset.features(Known.BEFORE)}

    def value(column: Column) -> object:
        if column.dtype.startswith("array"):
            return []
        return None if column.nullable or column.name in context else 0

    next_step = {column.name: value(column) for column in input_columns(dataset)}
    columns = {
        "user_id": pa.nulls(1, arrow_type(dataset.user_id.column.dtype)),
        "next_step": pa.array([next_step], arrow_type(next_step_type(dataset))),
    }
    return pa.table(columns | {c.name: pa.nulls(1, arrow_type(c.dtype)) for c in profile_inputs(dataset)})


def _checked(candidates: pa.Table, dataset: Dataset) -> pa.Table:
    """user_id and the candidate's columns, in the types of the lake."""
    names = ("user_id", *candidate_columns(dataset))
    if missing := [name for name in names if name not in candidates.column_names]:
        raise UserError(f"the candidates lack the column {', '.join(missing)}: write null for an unknown value")
    columns = {}
    for name in names:
        column = exposures(dataset).column(name)
        try:
            columns[name] = candidates.column(name).cast(arrow_type(column.dtype))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(
                f"the candidates' column {name} is not a {column.dtype}, as in the lake: {error}"
            ) from error
    if nulls := columns["user_id"].null_count:
        raise UserError(f"{nulls:,} candidates have no user_id")
    return pa.table(columns)


def _journeys_of(lake: Lake, dataset: Dataset, day: str, user_id: pa.ChunkedArray) -> pa.Table:
    """The journeys of these users, in the types of empty_journey."""
    schema, users = empty_journey(dataset).schema, user_id.unique()
    parts = [schema.empty_table()]
    for journeys in read_journeys(lake, dataset, day, journey_inputs(dataset)):
        chosen = journeys.filter(pc.is_in(journeys.column("user_id"), value_set=users))
        parts.append(chosen.select(schema.names).cast(schema))
    return pa.concat_tables(parts)

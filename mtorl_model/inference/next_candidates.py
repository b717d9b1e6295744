"""Every user's next exposure as candidates, from the journeys at the end of a day.

Two things are not known at night and are assumed. The candidate: CANDIDATES exposures are drawn from those of the day,
the same ones for every user, and a prediction is the mean over them; so it is the chance for the usual offer.
The session: the next exposure begins one.

Shapes: U users, C candidates for each, N = U * C rows.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.candidate_inputs import candidate_inputs
from lakehouse.journeys import read_journeys
from lakehouse.lake import Lake
from lakehouse.reading import read_tables
from mtorl_model.data.candidates.encoding import CandidateEncoder
from mtorl_model.data.candidates.reading import store_of
from mtorl_model.methods.method import Method, Prediction
from schemas.contract import Known
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import derived_inputs, profile_inputs, session_inputs
from schemas.tables import EXPOSURES, ITEM_HISTORY

CANDIDATES = 8  # drawn exposures
USERS_AT_ONCE = 4096

Floats = npt.NDArray[np.float64]


def predict_next(lake: Lake, dataset: Dataset, model: Method, day: str) -> Iterator[tuple[pa.Array, Floats]]:
    """user_id and the chance of each task, (U, T), in chunks of the journeys of the day."""
    for user_id, predicted in predictions_of_next(lake, dataset, model, day):
        assert predicted.gains_XG is not None
        yield user_id, predicted.gains_XG.mean(axis=1)


def predictions_of_next(lake: Lake, dataset: Dataset, model: Method, day: str) -> Iterator[tuple[pa.Array, Prediction]]:
    """user_id and the prediction for each candidate, [U, C], in chunks of the journeys of the day."""
    candidates, history = drawn_candidates(lake, dataset, day), history_of(lake, dataset, day)
    for journeys in read_journeys(lake, dataset, day, journey_inputs(dataset), USERS_AT_ONCE):
        user_N = np.repeat(np.arange(len(journeys)), len(candidates))
        candidate_N = np.tile(np.arange(len(candidates)), len(journeys))
        pairs = (journeys.take(pa.array(user_N)), candidates.take(pa.array(candidate_N)))
        rows = next_rows(*pairs, history, dataset, dataset.end_of_day_ms(day))
        predicted = predicted_rows(rows, model, dataset).reshaped((len(journeys), len(candidates)))
        yield journeys.column("user_id").combine_chunks(), predicted


def drawn_candidates(lake: Lake, dataset: Dataset, day: str) -> pa.Table:
    """CANDIDATES exposures of the day, or all if there are fewer, with channel and properties of the candidate.

    They are spread evenly over the ids, so they depend on the day's exposures only.
    """
    names = ["exposure_id", *candidate_columns(dataset)]
    parts = list(read_tables([lake[EXPOSURES, dataset, day]], names))
    rows = pa.concat_tables(parts) if parts else None
    if rows is None or not len(rows):
        raise UserError(f"no exposure of {dataset.name} on {day} in {lake.root}, so there is no candidate")
    rows = rows.sort_by("exposure_id")
    chosen = np.linspace(0, len(rows) - 1, min(CANDIDATES, len(rows))).astype(np.int64)
    return rows.take(pa.array(chosen)).combine_chunks()


def next_rows(journeys: pa.Table, candidates: pa.Table, history: pa.Table, dataset: Dataset, as_of_ms: int) -> pa.Table:
    """Candidate rows (features/candidate_inputs.py), each of a user and a candidate; exposure_id is the row.

    journeys, candidates: row-aligned.
    """
    rows = len(journeys)
    objective_columns = (name for objective in dataset.objectives for name in objective.columns)
    next_step = journeys.column("next_step").combine_chunks()
    number_N, zeros_N = pa.array(np.arange(rows)), pa.array(np.zeros(rows, np.int64))
    exposures: dict[str, Any] = {
        "user_id": journeys.column("user_id"),
        "exposure_id": number_N,
        "exposed_at_ms": pa.array(np.full(rows, as_of_ms)),
        **dict.fromkeys((*dataset.gain_names, *objective_columns), zeros_N),
    }
    for name in candidates.column_names:
        exposures.setdefault(name, candidates.column(name))
    for column in dataset.features(Known.BEFORE):
        exposures[column.name] = pc.struct_field(next_step, column.name)
    for column in profile_inputs(dataset):
        exposures[column.name] = journeys.column(column.name)
    steps = {"exposure_id": number_N} | {column.name: zeros_N for column in session_inputs(dataset)}
    steps["session_id"] = number_N  # each row is another session
    for column in derived_inputs(dataset):
        steps[column.name] = pc.struct_field(next_step, column.name)
    return candidate_inputs(pa.table(exposures), pa.table(steps), history, dataset)


def predicted_rows(rows: pa.Table, model: Method, dataset: Dataset) -> Prediction:
    """The prediction for each of the rows of next_rows, in their order."""
    split = pa.array(np.zeros(len(rows), np.int8))
    store = store_of(rows.append_column("split", split), CandidateEncoder.from_json(model.encoding), dataset)
    return model.predict(store).take(np.argsort(store.exposure_id_N))  # the store sorts its rows by user


def candidate_columns(dataset: Dataset) -> tuple[str, ...]:
    """The columns that a candidate brings with it: its channel and its properties."""
    return tuple(dict.fromkeys(["channel", *(c.name for c in dataset.features(Known.WITH)), *dataset.items]))


def history_of(lake: Lake, dataset: Dataset, day: str) -> pa.Table:
    """`item_history` of a day, as candidate_inputs reads it."""
    names = ["item", "value", "exposures", *dataset.gain_names]
    return pa.concat_tables(read_tables([lake[ITEM_HISTORY, dataset, day]], names))


def journey_inputs(dataset: Dataset) -> list[str]:
    """The columns of `journeys` that next_rows reads."""
    return ["user_id", "next_step", *(column.name for column in profile_inputs(dataset))]

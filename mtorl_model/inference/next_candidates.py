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
    encoder, candidates = CandidateEncoder.from_json(model.encoding), drawn_candidates(lake, dataset, day)
    history = pa.concat_tables(read_tables([lake[ITEM_HISTORY, dataset, day]], _history_columns(dataset)))
    columns = ["user_id", "next_step", *(column.name for column in profile_inputs(dataset))]
    for journeys in read_journeys(lake, dataset, day, columns, USERS_AT_ONCE):
        rows = next_rows(journeys, candidates, history, dataset, dataset.end_of_day_ms(day))
        store = store_of(rows.append_column("split", pa.array(np.zeros(len(rows), np.int8))), encoder, dataset)
        row_N = np.argsort(store.exposure_id_N)  # the store sorts its rows by user
        predicted = model.predict(store).take(row_N).reshaped((len(journeys), len(candidates)))
        yield journeys.column("user_id").combine_chunks(), predicted


def drawn_candidates(lake: Lake, dataset: Dataset, day: str) -> pa.Table:
    """CANDIDATES exposures of the day, or all if there are fewer, with channel and properties of the candidate.

    They are spread evenly over the ids, so they depend on the day's exposures only.
    """
    names = ["exposure_id", "channel", *(c.name for c in dataset.features(Known.WITH))]
    parts = list(read_tables([lake[EXPOSURES, dataset, day]], dict.fromkeys([*names, *dataset.items])))
    rows = pa.concat_tables(parts) if parts else None
    if rows is None or not len(rows):
        raise UserError(f"no exposure of {dataset.name} on {day} in {lake.root}, so there is no candidate")
    rows = rows.sort_by("exposure_id")
    chosen = np.linspace(0, len(rows) - 1, min(CANDIDATES, len(rows))).astype(np.int64)
    return rows.take(pa.array(chosen)).combine_chunks()


def next_rows(journeys: pa.Table, candidates: pa.Table, history: pa.Table, dataset: Dataset, as_of_ms: int) -> pa.Table:
    """Candidate rows (features/candidate_inputs.py) of every user with every candidate; exposure_id is the row."""
    users, drawn = len(journeys), len(candidates)
    user_N, candidate_N = np.repeat(np.arange(users), drawn), np.tile(np.arange(drawn), users)
    rows = users * drawn
    objective_columns = (name for objective in dataset.objectives for name in objective.columns)
    next_step = journeys.column("next_step").combine_chunks().take(pa.array(user_N))
    number_N, zeros_N = pa.array(np.arange(rows)), pa.array(np.zeros(rows, np.int64))
    exposures: dict[str, Any] = {
        "user_id": journeys.column("user_id").take(pa.array(user_N)),
        "exposure_id": number_N,
        "exposed_at_ms": pa.array(np.full(rows, as_of_ms)),
        **dict.fromkeys((*dataset.gain_names, *objective_columns), zeros_N),
    }
    for name in candidates.column_names:
        exposures.setdefault(name, candidates.column(name).take(pa.array(candidate_N)))
    for column in dataset.features(Known.BEFORE):
        exposures[column.name] = pc.struct_field(next_step, column.name)
    for column in profile_inputs(dataset):
        exposures[column.name] = journeys.column(column.name).take(pa.array(user_N))
    steps = {"exposure_id": number_N} | {column.name: zeros_N for column in session_inputs(dataset)}
    steps["session_id"] = number_N  # each row is another session
    for column in derived_inputs(dataset):
        steps[column.name] = pc.struct_field(next_step, column.name)
    return candidate_inputs(pa.table(exposures), pa.table(steps), history, dataset)


def _history_columns(dataset: Dataset) -> list[str]:
    return ["item", "value", "exposures", *dataset.gain_names]

"""Exposures to windows of n steps: where each journey is cut, and which steps are labels.

Shapes: D user days (one user's exposures of one day), W windows.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import Ints, to_ints
from features.user_chunk import DS, UserChunk
from features.window_cuts import cut_spans
from schemas.dataset import Dataset
from schemas.splits import split_of
from schemas.steps import profile_inputs


def cut_windows(chunk: UserChunk, position_N: Ints, dataset: Dataset, n: int, days: Sequence[str]) -> pa.Table:
    """The table `sequences` plus ds, of the chunk's users and these days. The windows of one day are adjacent.

    position_N: place of each exposure in its user's journey, from 0.

    A user's labels of a day are all of that day's exposures except the user's first ever; features.window_cuts
    describes how they are cut into windows.
    """
    first_row_D, last_row_D = _user_days(chunk, days)
    cuts = cut_spans(position_N[first_row_D], position_N[last_row_D] + 1, n)
    user_W = chunk.user_N[first_row_D][cuts.span_W]
    # As of the window's day, so that a day has the same content whether it is built alone or with later ones.
    last_row_W = pa.array(last_row_D[cuts.span_W])
    first_step_W = np.maximum(cuts.stop_W - n, 0)
    split_U = pa.array([split_of(user) for user in chunk.user_id_U.to_pylist()], pa.string())
    return pa.table(
        {
            "user_id": chunk.user_id_U.take(pa.array(user_W)),
            "window": cuts.number_W,
            "split": split_U.take(pa.array(user_W)),
            "length": np.full(len(user_W), n),
            "padding": n - (cuts.stop_W - first_step_W),
            "first_step": first_step_W,
            "first_label": cuts.stop_W - cuts.labels_W,
            "last_step": cuts.stop_W - 1,
            **{column.name: chunk.exposures.column(column.name).take(last_row_W) for column in profile_inputs(dataset)},
            DS: chunk.exposures.column(DS).take(last_row_W),
        }
    )


def _user_days(chunk: UserChunk, days: Sequence[str]) -> tuple[Ints, Ints]:
    """[D] each: the rows of the first and the last exposure of each user on each of these days, sorted by day."""
    day = chunk.exposures.column(DS).combine_chunks()
    day_N = to_ints(pc.dictionary_encode(day).indices)
    is_requested_N = pc.is_in(day, pa.array(days, pa.string())).to_numpy(zero_copy_only=False)
    is_first_of_day_N = np.ones(len(day_N), dtype=bool)
    is_first_of_day_N[1:] = (np.diff(day_N) != 0) | (np.diff(chunk.user_N) != 0)
    first_row_D = np.flatnonzero(is_first_of_day_N)
    last_row_D = np.append(first_row_D[1:], len(day_N)) - 1
    # Sorted by day: the writer of a file for each day then takes slices, without a copy.
    order_D = np.argsort(day_N[first_row_D], kind="stable")
    order_D = order_D[is_requested_N[first_row_D[order_D]]]
    return first_row_D[order_D], last_row_D[order_D]

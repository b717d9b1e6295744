"""Exposures to windows of n steps: cut each journey, pad on the left, mark the labels.

Shapes: U users, D user days (one user's exposures of one day), W windows, L = n positions, M steps of the journeys,
V real positions of all windows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from features.channel_counts import dense_counts, dense_lists
from features.columns import NO_ROW, Ints, fixed_length_lists, row_indices, to_ints
from features.point_in_time import point_in_time_steps
from features.user_chunk import DS, UserChunk
from features.visibility import Side
from features.window_cuts import cut_spans
from jobs.history.journey_steps import JourneySteps
from jobs.history.whole_users import compute_whole_users
from jobs.spark.worker_tables import WorkerTable
from schemas.dataset import Dataset
from schemas.splits import split_of
from schemas.steps import count_inputs, feature_inputs, outcome_columns, profile_inputs
from schemas.tables.feature_spec import FeatureSpec
from schemas.tables.sequences import counted_by_channel, sequences


def cut_windows(
    exposures: DataFrame,
    earlier_journeys: DataFrame | None,
    dataset: Dataset,
    spec: FeatureSpec,
    n: int,
    days: Sequence[str],
) -> WorkerTable:
    """The table `sequences` plus ds, of these days, oldest first.

    exposures: rows of the table `exposures` plus ds, of all days from the first of these to the last.
    earlier_journeys: the table `journeys` as of the day before, None without earlier history.

    A user's labels of a day are all of that day's exposures except the user's first ever; features.window_cuts
    describes how they are cut into windows.
    """

    def compute(chunk: UserChunk, side: Side) -> pa.Table:
        steps = point_in_time_steps(chunk, dataset, side)
        journeys = JourneySteps.from_chunk(chunk, steps, dataset)
        bounds = _window_bounds(chunk, journeys, n, days)
        return _window_columns(chunk, journeys, bounds, dataset, spec, n)

    ddl = f"{sequences(dataset, spec, n).ddl}, {DS} string"
    return compute_whole_users(exposures, earlier_journeys, dataset, dataset.end_of_day_ms(days[-1]), compute, ddl)


class WindowBounds(NamedTuple):
    """W windows. The windows of one day are adjacent and sorted by user; days keep their order in the chunk.

    day_row_W: row of the last of the day's exposures of the user, in the chunk. The others: see WindowCuts.
    """

    user_W: Ints
    day_row_W: Ints
    number_W: Ints
    stop_W: Ints
    labels_W: Ints


def _window_bounds(chunk: UserChunk, journeys: JourneySteps, n: int, days: Sequence[str]) -> WindowBounds:
    """Where the windows of these days begin and end in the journeys."""
    day = chunk.exposures.column(DS).combine_chunks()
    day_N = to_ints(pc.dictionary_encode(day).indices)
    is_requested_N = pc.is_in(day, pa.array(days)).to_numpy(zero_copy_only=False)
    is_first_of_day_N = np.ones(len(day_N), dtype=bool)
    is_first_of_day_N[1:] = (np.diff(day_N) != 0) | (np.diff(chunk.user_N) != 0)
    first_row_D = np.flatnonzero(is_first_of_day_N)
    last_row_D = np.append(first_row_D[1:], len(day_N)) - 1

    # Sorted by day: the writer of a file for each day then takes slices, without a copy.
    order_D = np.argsort(day_N[first_row_D], kind="stable")
    order_D = order_D[is_requested_N[first_row_D[order_D]]]
    first_row_D, last_row_D = first_row_D[order_D], last_row_D[order_D]
    user_D = chunk.user_N[first_row_D]
    start_D = journeys.remembered_U[user_D] + first_row_D - journeys.new_start_U[user_D]
    cuts = cut_spans(start_D, start_D + last_row_D + 1 - first_row_D, n)
    return WindowBounds(user_D[cuts.span_W], last_row_D[cuts.span_W], cuts.number_W, cuts.stop_W, cuts.labels_W)


def _window_columns(
    chunk: UserChunk, journeys: JourneySteps, bounds: WindowBounds, dataset: Dataset, spec: FeatureSpec, n: int
) -> pa.Table:
    position_WL = bounds.stop_W[:, None] - n + np.arange(n)
    valid_WL = position_WL >= 0
    user_WL = np.broadcast_to(bounds.user_W[:, None], valid_WL.shape)
    row_WL = np.where(valid_WL, journeys.rows(user_WL, np.maximum(position_WL, 0)), NO_ROW)
    rows, valid = row_indices(row_WL.ravel()), valid_WL.ravel()
    is_label_WL = np.arange(n) >= n - bounds.labels_W[:, None]
    split_U = pa.array([split_of(user) for user in chunk.user_id_U.to_pylist()])

    columns: dict[str, Any] = {
        "user_id": chunk.user_id_U.take(pa.array(bounds.user_W)),
        "window": bounds.number_W,
        "split": split_U.take(pa.array(bounds.user_W)),
        "valid": fixed_length_lists(pa.array(valid), n),
        "is_label": fixed_length_lists(pa.array(is_label_WL.ravel()), n),
        DS: chunk.exposures.column(DS).take(pa.array(bounds.day_row_W)),
    }
    kept_names = {feature.name for feature in spec.kept_features}
    for name in (column.name for column in profile_inputs(dataset) if column.name in kept_names):
        # As of the window's day, so that a day has the same content whether it is built alone or with later ones.
        columns[name] = chunk.exposures.column(name).take(pa.array(bounds.day_row_W))
    inputs = (column for column in feature_inputs(dataset) if column.name in kept_names)
    for name in (column.name for column in (*outcome_columns(dataset), *inputs, *count_inputs(dataset))):
        columns[name] = fixed_length_lists(pc.struct_field(journeys.steps_M, name).take(rows), n)
    for prefix, counted in counted_by_channel(dataset).items():
        counts_WMA = dense_counts(pc.struct_field(journeys.steps_M, f"{prefix}_by_channel"), counted, spec.channels)
        for name, counts_MA in zip(counted, counts_WMA, strict=True):
            lists = dense_lists(counts_MA[row_WL[valid_WL]], valid)
            columns[f"{prefix}_{name}_by_channel"] = fixed_length_lists(lists, n)
    return pa.table(columns)

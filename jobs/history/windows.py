"""Steps to windows of n: cut, pad on the left, mark the labels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from features.columns import NONE, Ints, ints, offsets, positions
from features.facts import Chunk
from features.point_in_time import Side, known_steps
from jobs.history.journeys import Remembered
from jobs.history.user_history import DS, per_user
from jobs.spark.worker_tables import InWorkers
from schemas.dataset import Dataset
from schemas.splits import split_of
from schemas.steps import count_inputs, feature_inputs, outcome_columns, profile_inputs
from schemas.tables.feature_spec import FeatureSpec
from schemas.tables.sequences import counted_by_channel, sequences


class Bounds(NamedTuple):
    """Where W windows lie in their users' journeys, stop excluded: a day's side by side, by user; days as they come."""

    user_W: Ints
    day_W: Ints  # the last of the day's exposures, by its place in the chunk
    window_W: Ints  # number among the user's of that day
    labels_W: Ints
    stop_W: Ints


def cut_windows(
    exposures: DataFrame, yesterday: DataFrame | None, dataset: Dataset, spec: FeatureSpec, n: int, days: Sequence[str]
) -> InWorkers:
    """The table `sequences` plus ds, of these days, oldest first.

    exposures: rows of the table `exposures` plus ds, of all days from the first of these to the last. yesterday:
    `journeys` as of the day before.

    A user's labels of a day are all of that day's exposures but the user's first ever. They are cut into
    windows in order: the first window starts up to n/2 steps before its first label (at the journey's start
    where there are fewer), each further one exactly n/2 before; the last window is filled with more context.
    """

    def windows_of(chunk: Chunk, side: Side) -> pa.Table:
        steps = known_steps(chunk, dataset, side)
        return _windows(chunk, steps, Remembered.of(chunk, steps, dataset), dataset, spec, n, days)

    ddl = f"{sequences(dataset, spec, n).ddl}, {DS} string"
    return per_user(exposures, yesterday, dataset, dataset.end_of_day_ms(days[-1]), windows_of, ddl)


def _windows(
    chunk: Chunk, steps: pa.Table, journey: Remembered, dataset: Dataset, spec: FeatureSpec, n: int, days: Sequence[str]
) -> pa.Table:
    bounds = _bounds(chunk, journey, n, days)
    place_WL = bounds.stop_W[:, None] - n + np.arange(n)
    valid_WL = place_WL >= 0
    user_WL = np.broadcast_to(bounds.user_W[:, None], valid_WL.shape)
    at_WL = np.where(valid_WL, journey.at(user_WL, np.maximum(place_WL, 0)), NONE)
    at, ends = positions(at_WL.ravel()), offsets(np.full(len(at_WL), n))

    def lists(values: pa.Array) -> pa.ListArray:
        return pa.ListArray.from_arrays(ends, values)

    found: dict[str, Any] = {
        "user_id": chunk.user_id_U.take(pa.array(bounds.user_W)),
        "window": bounds.window_W,
        "split": pa.array([split_of(user) for user in chunk.user_id_U.to_pylist()]).take(pa.array(bounds.user_W)),
        "valid": lists(pa.array(valid_WL.ravel())),
        "is_label": lists(pa.array((np.arange(n) >= n - bounds.labels_W[:, None]).ravel())),
        DS: chunk.exposures.column(DS).take(pa.array(bounds.day_W)),
    }
    kept = {feature.name for feature in spec.kept_features}
    for column in profile_inputs(dataset):
        if column.name in kept:
            # As of that day, so that a day is the same whether it is built alone or with later ones.
            found[column.name] = chunk.exposures.column(column.name).take(pa.array(bounds.day_W))
    inputs = (c for c in feature_inputs(dataset) if c.name in kept)
    for column in (*outcome_columns(dataset), *inputs, *count_inputs(dataset)):
        found[column.name] = lists(pc.struct_field(journey.steps, column.name).take(at))
    of_channels = offsets(np.where(valid_WL.ravel(), len(spec.channels), 0))
    for when, counted in counted_by_channel(dataset).items():
        counts = _dense(pc.struct_field(journey.steps, f"{when}_by_channel"), counted, spec)
        for what, counts_MA in counts.items():
            values = pa.array(counts_MA[at_WL[valid_WL]].ravel())
            by_step = pa.ListArray.from_arrays(of_channels, values, mask=pa.array(~valid_WL.ravel()))
            found[f"{when}_{what}_by_channel"] = lists(by_step)
    return pa.table(found)


def _dense(entries: pa.ListArray, counted: Sequence[str], spec: FeatureSpec) -> dict[str, npt.NDArray[np.int32]]:
    """[M, A] each: counts of the spec's channels, 0 where a channel has no entry."""
    flat, step = pc.list_flatten(entries), ints(pc.list_parent_indices(entries))
    channel = pc.index_in(pc.struct_field(flat, "channel"), value_set=pa.array(list(spec.channels), pa.string()))
    place = ints(pc.fill_null(channel, NONE))
    known = place != NONE
    found = {}
    for what in counted:
        counts_MA = np.zeros((len(entries), len(spec.channels)), np.int32)
        counts_MA[step[known], place[known]] = ints(pc.struct_field(flat, what))[known]
        found[what] = counts_MA
    return found


def _bounds(chunk: Chunk, journey: Remembered, n: int, days: Sequence[str]) -> Bounds:
    """A user's and day's exposures lie side by side; D days of users in all."""
    day = chunk.exposures.column(DS).combine_chunks()
    day_N = ints(pc.dictionary_encode(day).indices)
    wanted_N = pc.is_in(day, pa.array(days)).to_numpy(zero_copy_only=False)
    changes_N = np.ones(len(day_N), dtype=bool)
    changes_N[1:] = (np.diff(day_N) != 0) | (np.diff(chunk.user_N) != 0)
    first_D = np.flatnonzero(changes_N)
    last_D = np.append(first_D[1:], len(day_N)) - 1
    user_D = chunk.user_N[first_D]
    start_D = journey.old_U[user_D] + first_D - journey.new_start_U[user_D]
    end_D = start_D + last_D + 1 - first_D
    context = (n + 1) // 2
    first_label_D = np.maximum(start_D, 1)
    # With a short past there is room for more labels in the first window.
    in_first_D = n - np.minimum(first_label_D, context)
    more_D = np.maximum(-(-(end_D - first_label_D - in_first_D) // (n - context)), 0)
    windows_D = np.where(wanted_N[first_D] & (end_D > first_label_D), more_D + 1, 0)
    # A day's side by side: who writes a file a day takes what lies side by side as it is.
    order_D = np.argsort(day_N[first_D], kind="stable")
    windows_O = windows_D[order_D]
    of_W = np.repeat(order_D, windows_O)
    window_W = np.arange(len(of_W)) - np.repeat(np.cumsum(windows_O) - windows_O, windows_O)
    reach_W = first_label_D[of_W] + in_first_D[of_W] + window_W * (n - context)
    label_W = np.where(window_W == 0, first_label_D[of_W], reach_W - (n - context))
    stop_W = np.minimum(reach_W, end_D[of_W])
    return Bounds(user_D[of_W], last_D[of_W], window_W, stop_W - label_W, stop_W)

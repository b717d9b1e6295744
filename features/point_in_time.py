"""Point-in-time inputs: the steps of a chunk of users with everything known strictly before each step.

Each function here adds some columns; all of them read one view (view.py). The rule of what a step may see is in
visibility.py. A `new_` column is the difference between what a step sees and what the user's previous step saw.

Shapes: U users, N exposures, S = N + U steps, C channels, W kinds of counts, K numbers with a running mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.channel_counts import dense_counts, sparse_counts
from features.columns import NO_ROW, Ints, distinct_codes, filled_ints, list_offsets, stacked, to_floats, to_ints
from features.figures import (
    NEVER,
    from_nano,
    gap_s,
    mean_of_sums,
    require_sums_below_limit,
    since_s,
    to_nano,
    to_summands,
)
from features.sessions import session_columns
from features.user_chunk import DS, UserChunk
from features.view import PointInTimeView
from features.visibility import Side
from schemas.contract import Known
from schemas.dataset import Dataset
from schemas.steps import (
    counted_switches,
    known_after_columns,
    last_column,
    mean_column,
    outcome_columns,
    profile_inputs,
    running_means,
    switches_column,
)

KIND = "_kind"
JOURNEY_POSITION = "journey_position"
EXPOSURE, QUERY = "exposure", "query"

_LAST_ID = 2**63 - 1  # sorts a query behind every exposure

Columns = dict[str, Any]  # [S] each, by name


def point_in_time_steps(chunk: UserChunk, dataset: Dataset, side: Side) -> pa.Table:
    """The steps of a chunk: one for each exposure, in their order, then a query for each user.

    Columns: user_id, KIND (EXPOSURE or QUERY), DS, and the outcome, input and profile columns of schemas.steps.
    Exposures also have JOURNEY_POSITION and its session columns, queries the columns of `journeys` that later steps
    need: RUNNING_TOTALS.

    side: STRICTLY_BEFORE, except in tests that plant a leak. Raises UserError for too many channels.
    """
    view = PointInTimeView.from_chunk(chunk, dataset, side)
    columns: Columns = {}
    for added in (
        _identity(view),
        _outcomes(view),
        _context(view),
        _last_values(view),
        _running_means(view),
        _switches(view),
        _times(view),
        _counts(view),
        _cost(view),
        _counts_by_channel(view),
        _pending(view),
    ):
        columns |= added
    columns |= _sessions(view, columns)
    return pa.table(columns)


def _identity(view: PointInTimeView) -> Columns:
    """user_id, KIND, DS, and the journey_position of exposures: how many the user has before, in the order of time."""
    chunk = view.chunk
    first_row_U = np.searchsorted(chunk.user_N, np.arange(chunk.users))
    position_N = np.arange(len(chunk.user_N)) - first_row_U[chunk.user_N]
    position_N += chunk.summary_count("next_step", "seen_exposures")[chunk.user_N]
    is_query_S = np.repeat([0, 1], [len(chunk.exposures), chunk.users])
    return {
        "user_id": stacked(chunk.exposures.column("user_id"), chunk.user_id_U),
        KIND: pa.array([EXPOSURE, QUERY]).take(pa.array(is_query_S)),
        DS: stacked(chunk.exposures.column(DS), pa.nulls(chunk.users, pa.string())),
        JOURNEY_POSITION: view.for_exposures(pa.array(position_N)),
    }


def _outcomes(view: PointInTimeView) -> Columns:
    """The outcome of each exposure. A query has only an id and a time, which sort it last."""
    chunk = view.chunk
    query_values = {
        "exposure_id": pa.array(np.full(chunk.users, _LAST_ID)),
        "exposed_at_ms": pa.array(np.full(chunk.users, chunk.as_of_ms)),
    }
    columns = {}
    for name in (column.name for column in outcome_columns(view.dataset)):
        values = chunk.exposures.column(name)
        columns[name] = stacked(values, query_values.get(name, pa.nulls(chunk.users, values.type)))
    return columns


def _context(view: PointInTimeView) -> Columns:
    """Columns known before their exposure, and the profile.

    At the end of a day the context of the next exposure is not known: a query has that of the latest exposure.
    """
    chunk, columns = view.chunk, {}
    for column in view.dataset.features(Known.BEFORE):
        columns[column.name] = view.own_or_latest(column.name, chunk.summary("next_step", column.name))
    for column in profile_inputs(view.dataset):
        columns[column.name] = view.own_or_latest(column.name, chunk.summaries.column(column.name))
    return columns


def _last_values(view: PointInTimeView) -> Columns:
    """last_<column>: the value of the latest exposure."""
    chunk = view.chunk
    return {
        last_column(column.name): view.latest(
            chunk.exposures.column(column.name), chunk.summary("next_step", last_column(column.name))
        )
        for column in known_after_columns(view.dataset)
    }


def _running_means(view: PointInTimeView) -> Columns:
    """mean_<number>. seen_sums, of queries: the sum of each number in millionths, and how many numbers it has."""
    names = running_means(view.dataset)
    sum_before_UK, count_before_UK = _summary_sums(view.chunk, names)
    user_S, columns = view.steps.user_S, {}
    sum_SK, count_SK = (np.zeros((len(user_S), len(names)), np.int64) for _ in range(2))
    for k, name in enumerate(names):
        summand_N, is_number_N = to_summands(to_floats(view.chunk.exposures.column(name)))
        sum_SK[:, k] = view.seen_exposures.total(summand_N) + sum_before_UK[user_S, k]
        count_SK[:, k] = view.seen_exposures.total(is_number_N) + count_before_UK[user_S, k]
        columns[mean_column(name)] = mean_of_sums(sum_SK[:, k], count_SK[:, k])
    queries = slice(len(view.chunk.user_N), None)
    columns["seen_sums"] = view.for_queries(_sums_as_lists(names, sum_SK[queries], count_SK[queries]))
    return columns


def _summary_sums(chunk: UserChunk, names: Sequence[str]) -> tuple[Ints, Ints]:
    """[U, K] each: the summaries' sums in millionths, and how many numbers are in them."""
    sums_U = chunk.summary("seen_sums")
    entries, user = pc.list_flatten(sums_U), to_ints(pc.list_parent_indices(sums_U))
    name = filled_ints(pc.index_in(pc.struct_field(entries, "name"), value_set=pa.array(names, pa.string())), NO_ROW)
    is_kept = name != NO_ROW
    sum_UK, count_UK = (np.zeros((chunk.users, len(names)), np.int64) for _ in range(2))
    for target_UK, field in ((sum_UK, "micro"), (count_UK, "count")):
        target_UK[user[is_kept], name[is_kept]] = to_ints(pc.struct_field(entries, field))[is_kept]
    return sum_UK, count_UK


def _sums_as_lists(names: Sequence[str], sum_UK: Ints, count_UK: Ints) -> pa.ListArray:
    users = len(sum_UK)
    entries = pa.StructArray.from_arrays(
        [pa.array(list(names) * users, pa.string()), pa.array(sum_UK.ravel()), pa.array(count_UK.ravel())],
        ["name", "micro", "count"],
    )
    return pa.ListArray.from_arrays(list_offsets(np.full(users, len(names))), entries)


def _switches(view: PointInTimeView) -> Columns:
    """switches_<category>: how often it differed from the previous exposure. A user's first exposure does not count."""
    chunk, columns = view.chunk, {}
    previous_row_N = view.previous_row_S[: len(chunk.user_N)]
    for name in counted_switches(view.dataset):
        code = distinct_codes(view.facts(chunk.exposures.column(name), chunk.summary("next_step", last_column(name))))
        is_switch_N = (code[: len(previous_row_N)] != code[previous_row_N]) & (previous_row_N != NO_ROW)
        summary_U = chunk.summary_count("next_step", switches_column(name))
        columns[switches_column(name)] = view.seen_exposures.total(is_switch_N) + summary_U[view.steps.user_S]
    return columns


def _times(view: PointInTimeView) -> Columns:
    """gap_s since the previous step, since_<gain>_s since the latest gain. last_gain_at_ms, of queries."""
    chunk, steps = view.chunk, view.steps
    previous_ms = view.previous(chunk.exposures.column("exposed_at_ms"), chunk.summary("exposed_at_ms"))
    columns: Columns = {"gap_s": gap_s(steps.at_ms_S, filled_ints(previous_ms, NEVER))}
    latest_ms_U = {}
    for gain in view.dataset.gain_names:
        before_ms_U = filled_ints(chunk.summary("last_gain_at_ms", gain), NEVER)
        latest_ms_S = np.maximum(view.latest_gain_ms(gain), before_ms_U[steps.user_S])
        columns[f"since_{gain}_s"] = since_s(steps.at_ms_S, latest_ms_S)
        latest_ms_U[gain] = latest_ms_S[len(chunk.user_N) :]
    times = [pa.array(ms_U, mask=ms_U == NEVER) for ms_U in latest_ms_U.values()]
    columns["last_gain_at_ms"] = view.for_queries(pa.StructArray.from_arrays(times, list(latest_ms_U)))
    return columns


def _counts(view: PointInTimeView) -> Columns:
    """seen_exposures, seen_<gain>: over the whole history. new_exposures, new_<gain>: since the previous step."""
    columns = {}
    for counted in view.counted:
        seen_before_U, new_before_U = (
            view.chunk.summary_count("next_step", f"{prefix}_{counted}") for prefix in ("seen", "new")
        )
        total_S = view.count_seen(counted) + seen_before_U[view.steps.user_S]
        columns[f"seen_{counted}"] = total_S
        columns[f"new_{counted}"] = view.added_since_previous(total_S, seen_before_U - new_before_U)
    return columns


def _cost(view: PointInTimeView) -> Columns:
    """new_cost, in the log's unit; seen_cost_nano: the cost of the whole history in billionths of it."""
    chunk = view.chunk
    seen_before_U = chunk.summary_count("seen_cost_nano")
    new_before_U = to_nano(to_floats(chunk.summary("next_step", "new_cost")))
    cost_nano = to_nano(to_floats(chunk.exposures.column("cost")))
    approximate_S = view.seen_exposures.approximate_total(cost_nano.astype(np.float64))
    require_sums_below_limit(approximate_S + seen_before_U[view.steps.user_S], f"a user of {view.dataset.name}")
    seen_S = view.seen_exposures.total(cost_nano)
    total_S = seen_S + seen_before_U[view.steps.user_S]
    new_S = view.added_since_previous(total_S, seen_before_U - new_before_U)
    return {"seen_cost_nano": total_S, "new_cost": from_nano(new_S)}


def _counts_by_channel(view: PointInTimeView) -> Columns:
    """seen_by_channel, new_by_channel: the counts again, split by channel."""
    channels, counted, user_S = view.channels, view.counted, view.steps.user_S
    seen_before_WCU, new_before_WCU = (
        dense_counts(view.chunk.summary("next_step", name), counted, channels).transpose(0, 2, 1)
        for name in ("seen_by_channel", "new_by_channel")
    )
    # Steps are the last axis: each count is a row that is computed in one piece.
    total_WCS = np.stack([view.count_seen_by_channel(name) for name in counted])
    if view.chunk.has_summary_U.any():
        total_WCS += seen_before_WCU[..., user_S]
    new_WCS = view.added_since_previous(total_WCS, seen_before_WCU - new_before_WCU)
    return {
        "seen_by_channel": sparse_counts(total_WCS, counted, channels),
        "new_by_channel": sparse_counts(new_WCS, counted, channels),
    }


def _sessions(view: PointInTimeView, columns: Columns) -> Columns:
    """The session of each exposure and its place in it. session, of queries. columns: with the counts and gap_s."""
    seen = {counted: columns[f"seen_{counted}"] for counted in view.counted}
    return session_columns(view, columns["gap_s"][: len(view.chunk.user_N)], seen)


def _pending(view: PointInTimeView) -> Columns:
    """pending, of queries: the late gains that are not known yet at the end of the day."""
    return {"pending": view.for_queries(view.pending.as_lists(view.chunk.users, view.channels))}

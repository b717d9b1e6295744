"""Sessions of a chunk: the session of each exposure, its place in it, and the session's history before it.

Whether an exposure begins a session follows from it and the exposure before it (schemas.candidates.Sessions). The
place of an exposure is its rank by (exposed_at_ms, exposure_id); the counts of its session use only facts with a
smaller time stamp, as all inputs do.

Shapes: U users, N exposures, S = N + U steps.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from features.columns import NO_ROW, Ints, Mask, distinct_codes, filled_ints, stacked
from features.user_chunk import DS
from features.view import PointInTimeView
from schemas.candidates import SessionEnd


def session_columns(view: PointInTimeView, gap_s_N: Any, seen: Mapping[str, Ints]) -> dict[str, Any]:
    """[S] each: the columns schemas.steps.session_inputs of exposures, and `session` of queries.

    gap_s_N: seconds since the user's previous step. seen: [S] for each kind of count, what a step has seen in all.
    """
    chunk, rows_N = view.chunk, np.arange(len(view.chunk.user_N))
    is_first_N = _begins_session(view, gap_s_N)
    # The first row of the user in the chunk, or of the session.
    is_anchor_N = is_first_N.copy()
    is_anchor_N[np.diff(chunk.user_N, prepend=-1) != 0] = True
    anchor_N = np.maximum.accumulate(np.where(is_anchor_N, rows_N, 0))
    is_carried_N = ~is_first_N[anchor_N]  # the session began before the chunk

    def at_start(values_N: Ints, *field: str) -> Ints:
        """[N]: the value at the session's first exposure."""
        carried_U = filled_ints(chunk.summary("session", *field), 0)
        return np.where(is_carried_N, carried_U[chunk.user_N], values_N[anchor_N])

    ids_N = filled_ints(chunk.exposures.column("exposure_id"), 0)
    session_id_N = at_start(ids_N, "session_id")
    began_at_ms_N = at_start(chunk.exposed_at_ms_N, "began_at_ms")
    earlier_N = np.where(is_carried_N, chunk.summary_count("session", "exposures")[chunk.user_N], 0)
    position_N = rows_N - anchor_N + earlier_N
    seen_at_start_N = {counted: at_start(seen[counted][: len(rows_N)], f"seen_{counted}") for counted in view.counted}

    columns: dict[str, Any] = {
        "session_id": session_id_N,
        "position": position_N,
        "session_age_s": (chunk.exposed_at_ms_N - began_at_ms_N) / 1000,
    }
    for counted in view.counted:
        columns[f"session_{counted}"] = seen[counted][: len(rows_N)] - seen_at_start_N[counted]
    latest = {
        "session_id": session_id_N,
        "exposures": position_N + 1,
        "began_at_ms": began_at_ms_N,
        **{f"seen_{counted}": seen_at_start_N[counted] for counted in view.counted},
    }
    added = {name: view.for_exposures(pa.array(values)) for name, values in columns.items()}
    return added | {"session": view.for_queries(_latest_sessions(view, latest))}


def _begins_session(view: PointInTimeView, gap_s_N: Any) -> Mask:
    """[N]: whether the exposure is the first of its session."""
    chunk, sessions = view.chunk, view.dataset.sessions
    previous_row_N = view.previous_row_S[: len(chunk.user_N)]
    is_in_chunk_N = (previous_row_N != NO_ROW) & (previous_row_N < len(chunk.user_N))
    match sessions.end:
        case SessionEnd.GAP:
            ends_N = gap_s_N > sessions.gap_s
        case SessionEnd.DAY:  # all exposures of a chunk have later days than its summaries
            day_N = distinct_codes(chunk.exposures.column(DS))
            ends_N = ~is_in_chunk_N | (day_N != day_N[np.where(is_in_chunk_N, previous_row_N, 0)])
        case SessionEnd.COLUMN:
            values = chunk.exposures.column(sessions.column).cast(pa.string())
            code = distinct_codes(stacked(values, chunk.summary("session", "column_value")))
            ends_N = code[: len(previous_row_N)] != code[previous_row_N]
        case SessionEnd.NEVER:
            ends_N = np.zeros(len(previous_row_N), dtype=bool)
    # Journeys of an earlier version of the code have no session.
    has_session_U = chunk.summary("session", "session_id").is_valid().to_numpy(zero_copy_only=False)
    has_session_N = is_in_chunk_N | ((previous_row_N != NO_ROW) & has_session_U[chunk.user_N])
    is_first_N: Mask = ends_N | ~has_session_N
    return is_first_N


def _latest_sessions(view: PointInTimeView, latest: Mapping[str, Ints]) -> pa.StructArray:
    """[U]: the session of each user's latest exposure, in the layout of the column `session` of `journeys`.

    latest: [N] for each number of it.
    """
    chunk, column = view.chunk, view.dataset.sessions.column
    stop_U = np.searchsorted(chunk.user_N, np.arange(chunk.users), side="right")
    rows = len(chunk.user_N)
    has_exposure_U = np.zeros(chunk.users, dtype=bool)
    has_exposure_U[chunk.user_N] = True
    row_U = pa.array(np.where(has_exposure_U, stop_U - 1, rows + np.arange(chunk.users)))
    fields = {
        name: stacked(pa.array(values), chunk.summary("session", name)).take(row_U) for name, values in latest.items()
    }
    values = pa.nulls(rows, pa.string()) if column is None else chunk.exposures.column(column).cast(pa.string())
    fields["column_value"] = stacked(values, chunk.summary("session", "column_value")).take(row_U)
    return pa.StructArray.from_arrays([values.combine_chunks() for values in fields.values()], list(fields))

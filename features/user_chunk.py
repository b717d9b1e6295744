"""The facts of a chunk of users as columns: their exposures, and a summary of each journey so far.

Shapes: R rows of the chunk, U users, N exposures.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import NO_ROW, Ints, Mask, filled_ints, numbers_in_order, row_indices, to_ints

DS, SUMMARY = "ds", "_summary"
# Columns of `journeys` that the inputs of later steps need, in addition to the remembered steps and the next one.
RUNNING_TOTALS = ("seen_cost_nano", "seen_sums", "last_gain_at_ms", "session", "pending")


@dataclass(frozen=True)
class UserChunk:
    """The facts of whole users, who are computed together.

    exposures: N rows, by user, a user's rows by (exposed_at_ms, exposure_id).
    user_N: number of the exposure's user, 0 to U - 1, in ascending order.
    summaries: U rows with the user's row of `journeys` before the first exposure: the profile columns, and SUMMARY, a
        struct of next_step, memory, RUNNING_TOTALS and exposed_at_ms of the latest step. All null without such a row.
    as_of_ms: end of the last day; all exposures are before it.
    """

    exposures: pa.Table
    user_N: Ints
    exposed_at_ms_N: Ints
    summaries: pa.Table
    has_summary_U: Mask
    user_id_U: pa.ChunkedArray
    as_of_ms: int

    @property
    def users(self) -> int:
        return len(self.has_summary_U)

    @classmethod
    def from_rows(cls, rows: pa.Table, as_of_ms: int) -> "UserChunk":
        """rows: R rows of whole users; of each user first the summary, if any, then the exposures in their order."""
        user_id = rows.column("user_id").combine_chunks()
        is_first_R = np.ones(len(rows), dtype=bool)
        if len(rows) > 1:
            is_first_R[1:] = pc.not_equal(user_id[1:], user_id[:-1]).to_numpy(zero_copy_only=False)
        user_R = np.cumsum(is_first_R) - 1
        is_summary_R = pc.is_valid(rows.column(SUMMARY)).to_numpy()
        first_row_U = np.flatnonzero(is_first_R)
        row_N = np.flatnonzero(~is_summary_R)
        summary_row_U = np.where(is_summary_R[first_row_U], first_row_U, NO_ROW)
        exposures = rows.take(pa.array(row_N))
        return cls(
            exposures=exposures,
            user_N=user_R[row_N],
            exposed_at_ms_N=to_ints(exposures.column("exposed_at_ms")),
            summaries=rows.take(row_indices(summary_row_U)).combine_chunks(),  # read dozens of times
            has_summary_U=summary_row_U != NO_ROW,
            user_id_U=rows.column("user_id").take(pa.array(first_row_U)),
            as_of_ms=as_of_ms,
        )

    @classmethod
    def from_exposures(cls, exposures: pa.Table, summaries: pa.Table, as_of_ms: int) -> "UserChunk":
        """exposures: those of whole users, in order. summaries: user_id, the profile and SUMMARY, a row of any user."""
        user_id = exposures.column("user_id").combine_chunks()
        is_first_N = np.ones(len(exposures), dtype=bool)
        is_first_N[1:] = pc.not_equal(user_id[1:], user_id[:-1]).to_numpy(zero_copy_only=False)
        user_id_U = user_id.take(pa.array(np.flatnonzero(is_first_N)))
        summary_row_U = filled_ints(pc.index_in(user_id_U, value_set=summaries.column("user_id")), NO_ROW)
        return cls(
            exposures=exposures,
            user_N=np.cumsum(is_first_N) - 1,
            exposed_at_ms_N=to_ints(exposures.column("exposed_at_ms")),
            summaries=summaries.take(row_indices(summary_row_U)).combine_chunks(),  # read dozens of times
            has_summary_U=summary_row_U != NO_ROW,
            user_id_U=pa.chunked_array([user_id_U]),
            as_of_ms=as_of_ms,
        )

    @classmethod
    def from_all_users(cls, exposures: pa.Table, summaries: pa.Table, as_of_ms: int) -> "UserChunk":
        """The users of the exposures and those of the summaries, both in the order of users. See from_exposures."""
        user_id = pa.chunked_array([*summaries.column("user_id").chunks, *exposures.column("user_id").chunks])
        number = numbers_in_order(user_id)
        summary_user, user_N = np.split(number, [len(summaries)])
        _, first_row_U = np.unique(number, return_index=True)
        summary_row_U = np.full(len(first_row_U), NO_ROW)
        summary_row_U[summary_user] = np.arange(len(summaries))
        return cls(
            exposures=exposures,
            user_N=user_N,
            exposed_at_ms_N=to_ints(exposures.column("exposed_at_ms")),
            summaries=summaries.take(row_indices(summary_row_U)).combine_chunks(),  # read dozens of times
            has_summary_U=summary_row_U != NO_ROW,
            user_id_U=user_id.take(pa.array(first_row_U)),
            as_of_ms=as_of_ms,
        )

    def summary(self, *path: str) -> pa.Array:
        """[U]: a field of the summaries, named by the path to it."""
        value = self._summary_U
        for name in path:
            value = pc.struct_field(value, name)
        return value

    @cached_property
    def _summary_U(self) -> pa.Array:
        return self.summaries.column(SUMMARY).combine_chunks()

    def summary_count(self, *path: str) -> Ints:
        """[U]: a count of the summaries; 0 without a summary."""
        return filled_ints(self.summary(*path).cast(pa.int64()), 0)

"""The facts of some users as columns: their exposures, what their journeys sum up, and gains that become known later.

Shapes: R rows of the chunk, U users, N exposures, M late gains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import NONE, Ints, Mask, ints, positions
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import UNKNOWN_CHANNEL

# A channel is an action of the policy; a column with more values than this is something else.
MAX_CHANNELS = 64
DS, SUMMARY = "ds", "_summary"


@dataclass(frozen=True)
class Chunk:
    """The facts of some users. exposures: N rows, by user and in their total order; summaries: one a user."""

    exposures: pa.Table
    user_N: Ints  # 0 to U - 1, as they come
    at_ms_N: Ints
    summaries: pa.Table  # U rows; where a user has none, all is null
    has_summary_U: Mask
    user_id_U: pa.ChunkedArray
    as_of_ms: int

    @property
    def users(self) -> int:
        return len(self.has_summary_U)

    @classmethod
    def of(cls, rows: pa.Table, as_of_ms: int) -> "Chunk":
        """rows: of whole users, a user's summary first, then the exposures by (exposed_at_ms, exposure_id)."""
        user_id = rows.column("user_id").combine_chunks()
        is_first_R = np.ones(len(rows), dtype=bool)
        if len(rows) > 1:
            is_first_R[1:] = pc.not_equal(user_id[1:], user_id[:-1]).to_numpy(zero_copy_only=False)
        user_R = np.cumsum(is_first_R) - 1
        is_summary_R = pc.is_valid(rows.column(SUMMARY)).to_numpy()
        first_U = np.flatnonzero(is_first_R)
        exposure_N = np.flatnonzero(~is_summary_R)
        summary_U = np.where(is_summary_R[first_U], first_U, NONE)
        exposures = rows.take(pa.array(exposure_N))
        return cls(
            exposures=exposures,
            user_N=user_R[exposure_N],
            at_ms_N=ints(exposures.column("exposed_at_ms")),
            summaries=rows.take(positions(summary_U)).combine_chunks(),  # read dozens of times
            has_summary_U=summary_U != NONE,
            user_id_U=rows.column("user_id").take(pa.array(first_U)),
            as_of_ms=as_of_ms,
        )

    def summary(self, *path: str) -> pa.Array:
        """[U]: a field of the summaries."""
        value: pa.Array = self.summaries.column(SUMMARY).combine_chunks()
        for name in path:
            value = pc.struct_field(value, name)
        return value

    def count(self, *path: str) -> Ints:
        """[U]: a count of the summaries, 0 where there is none."""
        return ints(pc.fill_null(self.summary(*path).cast(pa.int64()), 0))


@dataclass(frozen=True)
class LateGains:
    """Facts that become known after their exposure, by user and time."""

    user_M: Ints
    known_at_ms_M: Ints
    channel_M: Ints  # position among the channels
    gain_M: npt.NDArray[Any]

    @classmethod
    def of(cls, chunk: Chunk, dataset: Dataset, channels: Sequence[str]) -> "LateGains":
        """Those of the exposures, and those that the summaries were waiting for."""
        parts = []
        for gain in dataset.late_gains:
            at_ms = chunk.exposures.column(dataset.column(gain).known_at or "")
            of_N = np.flatnonzero((ints(chunk.exposures.column(gain)) == 1) & pc.is_valid(at_ms).to_numpy())
            channel = chunk.exposures.column("channel").take(pa.array(of_N))
            parts.append((chunk.user_N[of_N], ints(at_ms.take(pa.array(of_N))), channel, np.full(len(of_N), gain)))
        pending = chunk.summary("pending")
        waiting = pc.list_flatten(pending)
        parts.append((
            ints(pc.list_parent_indices(pending)), ints(pc.struct_field(waiting, "known_at_ms")),
            pc.struct_field(waiting, "channel"), pc.struct_field(waiting, "gain").to_numpy(zero_copy_only=False),
        ))  # fmt: skip
        user, at_ms, gains = (np.concatenate([part[k] for part in parts]) for k in (0, 1, 3))
        channel = np.concatenate([channel_positions(part[2], channels) for part in parts])
        order = np.lexsort((gains.astype(str), channel, at_ms, user))
        return cls(user[order], at_ms[order], channel[order], gains[order])

    def where(self, is_one_M: Mask) -> "LateGains":
        return LateGains(
            *(values[is_one_M] for values in (self.user_M, self.known_at_ms_M, self.channel_M, self.gain_M))
        )


def channel_names(chunk: Chunk, dataset: Dataset) -> list[str]:
    """Every channel that these users have been shown, by name, UNKNOWN_CHANNEL included."""
    seen = pc.struct_field(pc.list_flatten(chunk.summary("next_step", "seen_by_channel")), "channel")
    waiting = pc.struct_field(pc.list_flatten(chunk.summary("pending")), "channel")
    columns = (chunk.exposures.column("channel"), seen, waiting)
    names = {name for column in columns for name in pc.unique(column).to_pylist() if name is not None}
    if len(names - {UNKNOWN_CHANNEL}) > MAX_CHANNELS:
        raise UserError(f"{dataset.name}: more than {MAX_CHANNELS} channels; choose a coarser channel in the contract")
    return sorted({*names, UNKNOWN_CHANNEL})


def channel_positions(channel: Any, channels: Sequence[str]) -> Ints:
    """Where each channel stands in `channels`; unknown ones under their own name."""
    known = pc.fill_null(channel, UNKNOWN_CHANNEL)
    return ints(pc.index_in(known, value_set=pa.array(list(channels), pa.string())))

"""Gains that become known some time after their exposure: conversions, for example.

Shapes: U users, N exposures, M late gains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.channel_counts import channel_positions
from features.columns import Ints, Mask, list_offsets, to_ints
from features.user_chunk import UserChunk
from schemas.dataset import Dataset


@dataclass(frozen=True)
class LateGains:
    """M late gains by user and time. channel_M: position among the chunk's channels. gain_M: name of the gain."""

    user_M: Ints
    known_at_ms_M: Ints
    channel_M: Ints
    gain_M: npt.NDArray[Any]

    @classmethod
    def from_chunk(cls, chunk: UserChunk, dataset: Dataset, channels: Sequence[str]) -> "LateGains":
        """The late gains of the chunk's exposures, and those that were pending in the summaries."""
        groups = [_exposure_gains(chunk, gain, known_at) for gain, known_at in dataset.late_gain_times.items()]
        groups.append(_pending_gains(chunk))
        user, known_at_ms, channel, gain = (list(values) for values in zip(*groups, strict=True))
        user_M, known_at_ms_M, gain_M = (np.concatenate(values) for values in (user, known_at_ms, gain))
        channel_M = np.concatenate([channel_positions(names, channels) for names in channel])
        order = np.lexsort((gain_M.astype(str), channel_M, known_at_ms_M, user_M))
        return cls(user_M[order], known_at_ms_M[order], channel_M[order], gain_M[order])

    def where(self, mask_M: Mask) -> "LateGains":
        columns = (self.user_M, self.known_at_ms_M, self.channel_M, self.gain_M)
        return LateGains(*(values[mask_M] for values in columns))

    def as_lists(self, users: int, channels: Sequence[str]) -> pa.ListArray:
        """[U]: each user's late gains in order of time, as `pending` of the table `journeys`."""
        entries = pa.StructArray.from_arrays(
            [
                pa.array(self.known_at_ms_M),
                pa.array(list(channels), pa.string()).take(pa.array(self.channel_M)),
                pa.array(self.gain_M, pa.string()),
            ],
            ["known_at_ms", "channel", "gain"],
        )
        return pa.ListArray.from_arrays(list_offsets(np.bincount(self.user_M, minlength=users)), entries)


_Group = tuple[Ints, Ints, Any, npt.NDArray[Any]]  # users, times, channels by name, gains


def _exposure_gains(chunk: UserChunk, gain: str, known_at: str) -> _Group:
    known_at_ms = chunk.exposures.column(known_at)
    is_gained_N = to_ints(chunk.exposures.column(gain)) == 1
    rows = np.flatnonzero(is_gained_N & pc.is_valid(known_at_ms).to_numpy())
    channel = chunk.exposures.column("channel").take(pa.array(rows))
    return chunk.user_N[rows], to_ints(known_at_ms.take(pa.array(rows))), channel, np.full(len(rows), gain)


def _pending_gains(chunk: UserChunk) -> _Group:
    pending_U = chunk.summary("pending")
    entries = pc.list_flatten(pending_U)
    return (
        to_ints(pc.list_parent_indices(pending_U)),
        to_ints(pc.struct_field(entries, "known_at_ms")),
        pc.struct_field(entries, "channel"),
        pc.struct_field(entries, "gain").to_numpy(zero_copy_only=False),
    )

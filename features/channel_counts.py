"""Counts of exposures and gains by channel.

In `journeys` they are sparse: a list of the channels that have a count. In windows they are dense: a number for every
channel of the feature spec.

Shapes: M steps, C channels of a chunk, A channels of a feature spec, W kinds of counts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import Ints, Mask, filled_ints, list_offsets, to_ints
from features.user_chunk import UserChunk
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import UNKNOWN_CHANNEL

# All channels that a chunk's users ever had: their dense counts must fit in a worker's memory. A column with more
# values is an id. How many of them a policy chooses among is decided by the feature spec (jobs/build_feature_spec.py).
MAX_CHANNELS = 1000
NOT_LISTED = -1  # the position of a channel that is not in a list of channels


def channel_names(chunk: UserChunk, dataset: Dataset) -> list[str]:
    """All channels of the chunk's exposures and summaries, by name, and UNKNOWN_CHANNEL.

    Raises UserError for more than MAX_CHANNELS channels.
    """
    seen = pc.struct_field(pc.list_flatten(chunk.summary("next_step", "seen_by_channel")), "channel")
    pending = pc.struct_field(pc.list_flatten(chunk.summary("pending")), "channel")
    columns = (chunk.exposures.column("channel"), seen, pending)
    names = {name for column in columns for name in pc.unique(column).to_pylist() if name is not None}
    if len(names - {UNKNOWN_CHANNEL}) > MAX_CHANNELS:
        raise UserError(f"{dataset.name}: more than {MAX_CHANNELS} channels; choose a coarser channel in the contract")
    return sorted({*names, UNKNOWN_CHANNEL})


def channel_positions(channel: Any, channels: Sequence[str]) -> Ints:
    """The position of each channel in `channels`, or NOT_LISTED; null counts as UNKNOWN_CHANNEL."""
    known = pc.fill_null(channel, UNKNOWN_CHANNEL)
    return filled_ints(pc.index_in(known, value_set=pa.array(list(channels), pa.string())), NOT_LISTED)


def sparse_counts(counts_WCM: Ints, counted: Sequence[str], channels: Sequence[str]) -> pa.ListArray:
    """[M]: lists of the channels that have a count, in the order of `channels`. counted: names of axis W."""
    has_count_MC = np.ascontiguousarray((counts_WCM > 0).any(axis=0).T)
    step, channel = np.divmod(np.flatnonzero(has_count_MC), len(channels))
    counts = (counts_CM[channel, step].astype(np.int32) for counts_CM in counts_WCM)
    entries = pa.StructArray.from_arrays(
        [pa.array(list(channels), pa.string()).take(pa.array(channel)), *map(pa.array, counts)],
        ["channel", *counted],
    )
    return pa.ListArray.from_arrays(list_offsets(has_count_MC.sum(axis=1)), entries)


def dense_counts(lists: pa.ListArray, counted: Sequence[str], channels: Sequence[str]) -> npt.NDArray[np.int32]:
    """[W, M, A]: the counts of sparse lists as a number for each of `channels`.

    A channel that a list does not name has 0; in a null list, every channel has 0. Counts of channels that are not in
    `channels` are dropped: exposures of unknown channel, for example, have no place in a feature spec.
    """
    entries, step = pc.list_flatten(lists), to_ints(pc.list_parent_indices(lists))
    channel = channel_positions(pc.struct_field(entries, "channel"), channels)
    is_kept = channel != NOT_LISTED
    counts_WMA = np.zeros((len(counted), len(lists), len(channels)), np.int32)
    for counts_MA, name in zip(counts_WMA, counted, strict=True):
        counts_MA[step[is_kept], channel[is_kept]] = to_ints(pc.struct_field(entries, name))[is_kept]
    return counts_WMA


def dense_lists(counts_VA: npt.NDArray[np.int32], is_valid_M: Mask) -> pa.ListArray:
    """[M]: a list of A counts for each valid step, null for the others. counts_VA: the valid steps' counts."""
    lengths = np.where(is_valid_M, counts_VA.shape[1], 0)
    return pa.ListArray.from_arrays(list_offsets(lengths), pa.array(counts_VA.ravel()), mask=pa.array(~is_valid_M))

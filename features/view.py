"""The facts that the steps of a chunk see, as the functions in point_in_time.py need them.

Shapes: U users, N exposures, S = N + U steps (visibility.py).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from features.channel_counts import channel_names, channel_positions
from features.columns import NO_ROW, Ints, row_indices, stacked, to_floats
from features.figures import NEVER
from features.late_gains import LateGains
from features.user_chunk import UserChunk
from features.visibility import Side, Steps, VisibleFacts
from schemas.dataset import Dataset

EXPOSURES = "exposures"


@dataclass(frozen=True)
class PointInTimeView:
    """The facts of a chunk, and which of them each step sees.

    channels: all channels of the chunk, by name.
    seen_exposures, seen_late_gains: the facts that each step sees.
    late_gains: those known before the end of the day; pending: the later ones.
    """

    chunk: UserChunk
    dataset: Dataset
    channels: list[str]
    steps: Steps
    seen_exposures: VisibleFacts
    late_gains: LateGains
    seen_late_gains: VisibleFacts
    pending: LateGains

    @classmethod
    def from_chunk(cls, chunk: UserChunk, dataset: Dataset, side: Side) -> "PointInTimeView":
        channels = channel_names(chunk, dataset)
        steps = Steps.from_chunk(chunk)
        all_late_gains = LateGains.from_chunk(chunk, dataset, channels)
        is_known_M = all_late_gains.known_at_ms_M < chunk.as_of_ms
        late_gains = all_late_gains.where(is_known_M)
        return cls(
            chunk=chunk,
            dataset=dataset,
            channels=channels,
            steps=steps,
            seen_exposures=VisibleFacts.known_before(steps, chunk.user_N, chunk.exposed_at_ms_N, side),
            late_gains=late_gains,
            seen_late_gains=VisibleFacts.known_before(steps, late_gains.user_M, late_gains.known_at_ms_M, side),
            pending=all_late_gains.where(~is_known_M),
        )

    @property
    def counted(self) -> tuple[str, ...]:
        """The kinds of counts, in total and by channel: exposures and each gain."""
        return (EXPOSURES, *self.dataset.gain_names)

    def latest(self, exposures: Any, summaries: Any) -> pa.ChunkedArray:
        """[S]: the value of the latest exposure that the step sees. exposures: [N], summaries: [U]."""
        return self.facts(exposures, summaries).take(self._latest_S)

    def previous(self, exposures: Any, summaries: Any) -> pa.ChunkedArray:
        """[S]: the value of the user's previous step, which may have the same time and then is not seen."""
        return self.facts(exposures, summaries).take(row_indices(self.previous_row_S))

    def facts(self, exposures: Any, summaries: Any) -> Any:
        """The values of the exposures and, behind them, of the summaries; without summaries no row refers to one."""
        return stacked(exposures, summaries) if self.chunk.has_summary_U.any() else exposures

    def own_or_latest(self, name: str, summaries: Any) -> pa.ChunkedArray:
        """[S]: a column's value of the step's own exposure; a query has that of the latest exposure."""
        exposures, queries = self.chunk.exposures.column(name), self._latest_S[len(self.chunk.user_N) :]
        return stacked(exposures, self.facts(exposures, summaries).take(queries))

    def for_exposures(self, values_N: Any) -> pa.ChunkedArray:
        """[S]: a value for the step of each exposure, null for queries."""
        return stacked(values_N, pa.nulls(self.chunk.users, values_N.type))

    def for_queries(self, values_U: Any) -> pa.ChunkedArray:
        """[S]: a value for each query, null for the steps of exposures."""
        return stacked(pa.nulls(len(self.chunk.user_N), values_U.type), values_U)

    def count_seen(self, counted: str) -> Ints:
        """[S]: how many of the chunk's exposures, or gains of one kind, a step sees."""
        if counted in self.dataset.late_gains:
            return self.seen_late_gains.total(self.late_gains.gain_M == counted)
        return self.seen_exposures.total(self._number_N[counted])

    def count_seen_by_channel(self, counted: str) -> Ints:
        """[C, S], in 32 bits: how many a step sees of each channel."""
        channel_C = np.arange(len(self.channels))[:, None]
        if counted in self.dataset.late_gains:
            is_counted_CM = (self.late_gains.channel_M == channel_C) & (self.late_gains.gain_M == counted)
            return self.seen_late_gains.total(is_counted_CM)
        return self.seen_exposures.total(self._number_N[counted].astype(np.int32) * (self._channel_N == channel_C))

    def latest_gain_ms(self, gain: str) -> Ints:
        """[S]: when the latest gain of the chunk that the step sees became known; NEVER without one."""
        if gain in self.dataset.late_gains:
            times, row_S = self.late_gains.known_at_ms_M, self.seen_late_gains.latest(self.late_gains.gain_M == gain)
        else:
            times, row_S = self.chunk.exposed_at_ms_N, self.seen_exposures.latest(self._number_N[gain] == 1)
        latest_S: Ints = np.append(times, NEVER)[row_S]  # NO_ROW is the last place
        return latest_S

    def added_since_previous(self, total_S: Ints, total_before_U: Ints) -> Ints:
        """[..., S]: how much a running total has grown since the user's previous step.

        total_before_U: [..., U], the total that the last step of the summary saw.
        """
        zero = np.zeros((*total_before_U.shape[:-1], 1), total_S.dtype)  # for NO_ROW, the last place
        totals = np.concatenate([total_S[..., : len(self.chunk.user_N)], total_before_U, zero], axis=-1)
        added_S: Ints = total_S - totals[..., self.previous_row_S]
        return added_S

    @cached_property
    def previous_row_S(self) -> Ints:
        """[S]: row of the previous step in the exposures and, behind them, the summaries; NO_ROW at a user's first."""
        chunk = self.chunk
        stop_U = np.searchsorted(chunk.user_N, np.arange(chunk.users), side="right")
        row_S = np.concatenate([np.arange(len(chunk.user_N)), stop_U]) - 1
        return np.where(row_S >= self.seen_exposures.start_S, row_S, self._summary_row_S)

    @cached_property
    def _latest_row_S(self) -> Ints:
        """[S]: row of the latest exposure that the step sees, in the exposures and, behind them, the summaries."""
        seen = self.seen_exposures
        return np.where(seen.stop_S > seen.start_S, seen.stop_S - 1, self._summary_row_S)

    @cached_property
    def _latest_S(self) -> pa.Array:
        return row_indices(self._latest_row_S)

    @cached_property
    def _summary_row_S(self) -> Ints:
        chunk = self.chunk
        row_U = np.where(chunk.has_summary_U, len(chunk.user_N) + np.arange(chunk.users), NO_ROW)
        row_S: Ints = row_U[self.steps.user_S]
        return row_S

    @cached_property
    def _number_N(self) -> dict[str, Ints]:
        """[N] for each kind of count: the number that an exposure adds to it."""
        exposures = self.chunk.exposures
        gains = {
            gain: np.nan_to_num(to_floats(exposures.column(gain))).astype(np.int64) for gain in self.dataset.gain_names
        }
        return {EXPOSURES: np.ones(len(exposures), np.int64), **gains}

    @cached_property
    def _channel_N(self) -> Ints:
        return channel_positions(self.chunk.exposures.column("channel"), self.channels)

"""The exposures and clicks of users: the latest exposures with their times, and totals of the earlier ones.

The journeys of a day, the journey memories of a campaign and a log of exposures give the same record for the same
exposures (tests/mtorl_model/budget/test_click_record.py): all remember the latest MEMORY_STEPS.

Shapes: N users, T remembered exposures, A actions (channels).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtorl_model.data.money import Ints
from schemas.steps import MEMORY_STEPS

NO_EXPOSURE = -1  # in channel_NT: padding, or a channel that the spec does not contain


@dataclass(frozen=True, slots=True, eq=False)
class ClickRecord:
    """The exposures of N users, the newest at the end of each row."""

    at_ms_NT: Ints
    channel_NT: Ints
    click_NT: Ints  # 0 or 1
    earlier_exposures_NA: Ints  # of the exposures before the remembered ones
    earlier_clicks_NA: Ints

    def __len__(self) -> int:
        return len(self.channel_NT)

    def take(self, rows: Ints | slice) -> "ClickRecord":
        """The record of a selection of the users."""
        return ClickRecord(
            self.at_ms_NT[rows],
            self.channel_NT[rows],
            self.click_NT[rows],
            self.earlier_exposures_NA[rows],
            self.earlier_clicks_NA[rows],
        )

    def packed(self) -> tuple["ClickRecord", Ints]:
        """The exposures without gaps, at the end of each row, with room for the longest only; and their number, [N]."""
        known_NT = self.channel_NT != NO_EXPOSURE
        count_N = known_NT.sum(axis=1)
        room = int(count_N.max(initial=0))
        # A stable sort by "is an exposure" moves the gaps to the front.
        order_NT = np.argsort(known_NT, axis=1, kind="stable")[:, known_NT.shape[1] - room :]
        at_ms_NT, channel_NT, click_NT = (
            np.take_along_axis(array_NT, order_NT, axis=1)
            for array_NT in (self.at_ms_NT, self.channel_NT, self.click_NT)
        )
        packed = ClickRecord(at_ms_NT, channel_NT, click_NT, self.earlier_exposures_NA, self.earlier_clicks_NA)
        return packed, count_N

    @classmethod
    def concatenate(cls, records: Sequence["ClickRecord"], actions: int) -> "ClickRecord":
        """The record of the users of all records. actions: the number of channels."""
        empty_NT, empty_NA = np.empty((0, MEMORY_STEPS), np.int64), np.empty((0, actions), np.int64)
        return cls(
            np.concatenate([empty_NT, *(record.at_ms_NT for record in records)]),
            np.concatenate([empty_NT, *(record.channel_NT for record in records)]),
            np.concatenate([empty_NT, *(record.click_NT for record in records)]),
            np.concatenate([empty_NA, *(record.earlier_exposures_NA for record in records)]),
            np.concatenate([empty_NA, *(record.earlier_clicks_NA for record in records)]),
        )

    @classmethod
    def from_totals(
        cls, at_ms_NT: Ints, channel_NT: Ints, click_NT: Ints, exposures_NA: Ints, clicks_NA: Ints
    ) -> "ClickRecord":
        """exposures_NA, clicks_NA: of all exposures, remembered or not. Totals are at least what is remembered."""
        row_N, step_N = np.nonzero(channel_NT != NO_EXPOSURE)
        channel_N = channel_NT[row_N, step_N]
        remembered_NA, remembered_clicks_NA = np.zeros_like(exposures_NA), np.zeros_like(clicks_NA)
        np.add.at(remembered_NA, (row_N, channel_N), 1)
        np.add.at(remembered_clicks_NA, (row_N, channel_N), click_NT[row_N, step_N])
        earlier_NA = np.maximum(exposures_NA - remembered_NA, 0)
        earlier_clicks_NA = np.clip(clicks_NA - remembered_clicks_NA, 0, earlier_NA)
        return cls(at_ms_NT, channel_NT, click_NT, earlier_NA, earlier_clicks_NA)

    @classmethod
    def from_exposures(
        cls, user_K: Ints, at_ms_K: Ints, channel_K: Ints, click_K: Ints, *, users: int, actions: int
    ) -> "ClickRecord":
        """The record of K exposures, in any order; those of a user at the same time keep their order."""
        order_K = np.lexsort((at_ms_K, user_K))
        user_K, at_ms_K, channel_K, click_K = (values_K[order_K] for values_K in (user_K, at_ms_K, channel_K, click_K))
        count_N = np.bincount(user_K, minlength=users)
        from_end_K = np.cumsum(count_N)[user_K] - np.arange(len(user_K))  # 1 for a user's latest
        latest_K = from_end_K <= MEMORY_STEPS
        position = (user_K[latest_K], MEMORY_STEPS - from_end_K[latest_K])
        at_ms_NT, click_NT = np.zeros((2, users, MEMORY_STEPS), np.int64)
        channel_NT = np.full((users, MEMORY_STEPS), NO_EXPOSURE, np.int64)
        at_ms_NT[position], channel_NT[position], click_NT[position] = (
            values_K[latest_K] for values_K in (at_ms_K, channel_K, click_K)
        )
        known_K = channel_K != NO_EXPOSURE
        exposures_NA, clicks_NA = np.zeros((2, users, actions), np.int64)
        np.add.at(exposures_NA, (user_K[known_K], channel_K[known_K]), 1)
        np.add.at(clicks_NA, (user_K[known_K], channel_K[known_K]), click_K[known_K])
        return cls.from_totals(at_ms_NT, channel_NT, click_NT, exposures_NA, clicks_NA)


def remembered_steps(memory: pa.ListArray, gain: str, channels: tuple[str, ...]) -> tuple[Ints, Ints, Ints]:
    """[N, T] each: time, channel and click of the remembered steps of `journeys`. gain: which counts as click."""
    steps = MEMORY_STEPS
    row_S = pc.list_parent_indices(memory).to_numpy()
    values = pc.list_flatten(memory)
    count_N = np.bincount(row_S, minlength=len(memory))
    first_N = np.cumsum(count_N) - count_N
    position_S = steps - count_N[row_S] + np.arange(len(row_S)) - first_N[row_S]
    channel = pc.index_in(pc.struct_field(values, "channel"), value_set=pa.array(channels, pa.string()))
    columns = (
        (0, pc.struct_field(values, "exposed_at_ms")),
        (NO_EXPOSURE, pc.fill_null(channel, NO_EXPOSURE)),
        (0, pc.struct_field(values, gain)),
    )
    arrays = []
    for padding, column in columns:
        array_NT = np.full((len(memory), steps), padding, np.int64)
        array_NT[row_S, position_S] = column.to_numpy(zero_copy_only=False)
        arrays.append(array_NT)
    at_ms_NT, channel_NT, click_NT = arrays
    return at_ms_NT, channel_NT, click_NT

"""Which facts a step may see: those that became known strictly before it.

Every input of a step is computed from facts, each with the time at which it becomes known:

- an exposure is known at its own time: that it happened, its channel, its cost, its `after` columns and the gains that
  come with it;
- a late gain (a conversion) is known at its own time;
- the summary of a journey is known before anything else of its user.

A step at time t sees exactly the facts with a smaller time. Exposures with one time stamp therefore do not see each
other, and no step sees a conversion that has not happened yet.

Facts are sorted by user and time, so a step sees a range of them: from its user's first fact up to the first fact that
is not before t. The end of that range, `VisibleFacts.stop_S`, is the whole rule. Every input is a difference of running
totals at it, or the row just before it.

Shapes: N exposures, U users, S = N + U steps, F facts of one kind.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from features.columns import NO_ROW, Floats, Ints, Mask
from features.user_chunk import UserChunk
from schemas.steps import TIME_BITS

# As in numpy.searchsorted: "left" leaves out facts that have the step's own time.
Side = Literal["left", "right"]
STRICTLY_BEFORE: Side = "left"


@dataclass(frozen=True)
class Steps:
    """The steps of a chunk: one for each exposure, in their order, then one for each user at the end of the day.

    The last ones are called queries: they are the next step of each journey, and have no outcome yet.
    """

    user_S: Ints
    at_ms_S: Ints

    @classmethod
    def from_chunk(cls, chunk: UserChunk) -> "Steps":
        return cls(
            np.concatenate([chunk.user_N, np.arange(chunk.users)]),
            np.concatenate([chunk.exposed_at_ms_N, np.full(chunk.users, chunk.as_of_ms)]),
        )


@dataclass(frozen=True)
class VisibleFacts:
    """The facts that each step sees: rows start_S to stop_S, stop excluded, of F facts sorted by user and time."""

    start_S: Ints
    stop_S: Ints

    @classmethod
    def known_before(cls, steps: Steps, user_F: Ints, known_at_ms_F: Ints, side: Side) -> "VisibleFacts":
        """side: STRICTLY_BEFORE, except in tests that plant a leak."""
        fact_key_F = _sort_key(user_F, known_at_ms_F)
        step_key_S = _sort_key(steps.user_S, steps.at_ms_S)
        start_S = np.searchsorted(user_F, steps.user_S)
        return cls(start_S, np.searchsorted(fact_key_F, step_key_S, side=side))

    def total(self, value_F: Ints | Mask) -> Ints:
        """[..., S]: the sum over the visible facts, in the type of the values. value_F: [..., F]; a mask is counted."""
        sums = np.zeros((*value_F.shape[:-1], value_F.shape[-1] + 1), np.result_type(value_F, np.int32))
        np.cumsum(value_F, axis=-1, dtype=sums.dtype, out=sums[..., 1:])
        total_S: Ints = sums[..., self.stop_S] - sums[..., self.start_S]
        return total_S

    def approximate_total(self, value_F: Floats) -> Floats:
        """[S]: about the sum over the visible facts, whatever its size."""
        sums = np.concatenate([np.zeros(1), np.cumsum(value_F)])
        total_S: Floats = sums[self.stop_S] - sums[self.start_S]
        return total_S

    def latest(self, mask_F: Mask) -> Ints:
        """[S]: row of the latest visible fact that the mask selects, or NO_ROW."""
        latest_F = np.maximum.accumulate(np.where(mask_F, np.arange(len(mask_F)), NO_ROW))
        latest_S = np.concatenate([[NO_ROW], latest_F])[self.stop_S]
        return np.where(latest_S >= self.start_S, latest_S, NO_ROW)


def _sort_key(user: Ints, time_ms: Ints) -> Ints:
    """One number that sorts by user, then by time."""
    return (user << TIME_BITS) + time_ms

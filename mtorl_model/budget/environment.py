"""What the online procedure advertises in: a live channel partner, a simulator, a replayed log.

`reset` and `step` are Gymnasium's, for many users at once. Users are numbered from 0, channels by the feature spec.
N users of a round, G gains.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mtorl_model.budget.money import Ints

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known at the start of a round, before anything is offered."""

    user_N: Ints  # who can be offered something now, ascending
    at_ms_N: Ints  # when; later than every earlier exposure of the user
    context: Mapping[str, pa.Array] = field(default_factory=dict)  # the dataset's `before` columns, [N]
    late: "tuple[Late, ...]" = ()  # gains of earlier exposures that became known since the last round


@dataclass(frozen=True, slots=True)
class Late:
    """One gain of an earlier exposure. channel: -1 where unknown."""

    user: int
    channel: int
    gain: int
    known_at_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of N offers, or N exposures of the past; rows where shown_N is False count for nothing."""

    user_N: Ints
    at_ms_N: Ints
    channel_N: Ints  # -1: shown in a channel that the spec does not know
    shown_N: Bools  # False: no exposure came about, nothing is paid
    gains_NG: npt.NDArray[np.int64]  # 0 or 1; a late gain is 0 here and comes as `Late`
    cost_nano_N: Ints
    # The dataset's `after` columns, [N]; `channel` where a name outside the spec is to be remembered.
    attributes: Mapping[str, list[Any]] = field(default_factory=dict)


class Environment(Protocol):
    """Where offers go.

    The offer of (round, user) is made once, however often it is sent: a second `step` with the same rounds and users
    gives the first one's answer, and shows and charges nothing again. Whatever it does, it never charges an exposure
    more than its bid.
    """

    users: pa.Array  # user_id of each user
    profile: Mapping[str, pa.Array]  # the dataset's profile columns, [U]
    bid_nano_A: Ints  # by channel: the most that one exposure may cost, offered with it

    def reset(self) -> Iterator[tuple[Moment, Outcome]]:
        """Begin, or begin again: the exposures of the past, oldest first, each behind the moment it was made in."""

    def moment(self, round_number: int) -> Moment:
        """The start of a round, the same each time it is asked for."""

    def step(self, round_number: int, user_N: Ints, channel_N: Ints, bid_nano_N: Ints) -> Outcome:
        """Offer each of the users (distinct, of the round's moment) that channel, for at most that price."""

    def recover(self, round_number: int, outcome: Outcome) -> None:
        """After a restart: this was answered before. An environment with a memory of its own ignores it."""

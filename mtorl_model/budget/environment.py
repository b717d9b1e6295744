"""What the online procedure advertises in: a live channel partner, a simulator, a replayed log.

Gymnasium's `reset` and `step` say too little to hold a budget through a kill, so four things are more here than
`step(users, channels) -> outcomes, costs`: an offer carries a bid, or nobody could cover its cost before it is known;
it has a key, or a restart would pay twice; `moment` says who can be asked, when, and what is known then; and `reset`
hands over the past. `recover` is for environments that die with the process.

Users are numbered from 0, channels by the feature spec.
N users of a round, G gains.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mtorl_model.data.money import Ints

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


class Offers(NamedTuple):
    """N offers of a round in the order in which they are made: distinct users, a channel each, and the bids."""

    user_N: Ints
    channel_N: Ints
    bid_nano_N: Ints  # the most that the exposure may cost


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of N offers, or N exposures of the past; rows where shown_N is False count for nothing."""

    user_N: Ints
    at_ms_N: Ints  # not before the moment's
    channel_N: Ints  # -1: shown in a channel that the spec does not know
    shown_N: Bools  # False: no exposure came about, nothing is paid
    gains_NG: npt.NDArray[np.int64]  # 0 or 1; a late gain is 0 here and comes as `Late`
    cost_nano_N: Ints
    # The dataset's `after` columns, [N], None where missing; `channel` where a name outside the spec is remembered.
    attributes: Mapping[str, list[Any]] = field(default_factory=dict)


def plain(value: Any) -> Any:
    """A value of an attribute as JSON has it: a NaN is a missing value, as the journeys take it."""
    return None if value != value else value.item() if isinstance(value, np.generic) else value


class Environment(Protocol):
    """Where offers go.

    An offer is made once, however often it is sent: its key is (campaign, round, user). A second `step` with the same
    key gives the first one's answer, and shows and charges nothing again. No exposure is charged more than its bid: the
    limit of a campaign's spending rests on it.
    """

    users: pa.Array  # user_id of each user
    profile: Mapping[str, pa.Array]  # the dataset's profile columns, [U]
    # By channel: the most that one exposure may cost, offered with it. May be another from round to round.
    bid_nano_A: Ints
    fingerprint: str  # of what its answers rest on beside the users: a campaign does not go on in another world

    def reset(self, campaign: str) -> Iterator[tuple[Moment, Outcome]]:
        """Begin the campaign of that key, or begin again: the past's exposures, oldest first, behind their moments."""

    def moment(self, round_number: int) -> Moment:
        """The start of a round, the same each time it is asked for."""

    def step(self, round_number: int, user_N: Ints, channel_N: Ints, bid_nano_N: Ints) -> Outcome:
        """Offer each of the users (distinct, of the round's moment) that channel, for at most that price."""

    def recover(self, round_number: int, outcome: Outcome) -> None:
        """After a restart: this was answered before. An environment with a memory of its own ignores it."""

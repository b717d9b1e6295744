"""The interface of the place in which the online procedure advertises: a channel partner, a simulator, a replayed log.

It is wider than the `reset` and `step(users, channels)` of Gymnasium, because a budget must survive a kill:

- An offer has a bid, so that its cost is covered before it is known.
- An offer has a key (campaign, round, user), so that a restart does not pay for it twice.
- `moment` returns the users who can get an offer in a round, the time, and the context.
- `reset` returns the exposures of the past.
- `recover` gives an environment without persistent state the outcomes of before a restart.

Users are numbered from 0, channels in the order of the feature spec.
Shapes: N users of a round, G gains.
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
class LateGain:
    """A gain of an earlier exposure that has become known. channel: -1 if unknown. gain: an index."""

    user: int
    channel: int
    gain: int
    known_at_ms: int


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that is known at the start of a round, before the first offer."""

    user_N: Ints  # the users who can get an offer, ascending
    at_ms_N: Ints  # the time; later than all earlier exposures of the user
    context: Mapping[str, pa.Array] = field(default_factory=dict)  # the dataset's `before` columns, [N]
    late: tuple[LateGain, ...] = ()  # since the last round


class Offers(NamedTuple):
    """N offers of a round, in the order in which they are made. No user appears twice."""

    user_N: Ints
    channel_N: Ints
    bid_nano_N: Ints  # the most that the exposure may cost


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of N offers, or N exposures of the past. If exposed_N is False, all other values are ignored."""

    user_N: Ints
    at_ms_N: Ints  # not before the time of the moment
    channel_N: Ints  # -1: a channel that the spec does not contain
    exposed_N: Bools  # False: the offer led to no exposure and costs nothing
    gains_NG: npt.NDArray[np.int64]  # 0 or 1; 0 for a late gain, which a later moment reports
    cost_nano_N: Ints
    # The dataset's `after` columns, [N], None for a missing value. With `channel` if the journeys should remember the
    # name of a channel that the spec does not contain.
    attributes: Mapping[str, list[Any]] = field(default_factory=dict)


def json_value(value: Any) -> Any:
    """A value of an attribute as JSON represents it: None for NaN, which the journeys treat as missing."""
    return None if value != value else value.item() if isinstance(value, np.generic) else value


class Environment(Protocol):
    """Accepts offers and returns their outcomes.

    An offer counts once, even if it is sent again: its key is (campaign, round, user). A second `step` with the same
    key returns the first outcome, without another exposure or charge. No exposure costs more than its bid: the limit on
    the spending of a campaign depends on this.
    """

    users: pa.Array  # user_id of each user
    profile: Mapping[str, pa.Array]  # the dataset's profile columns, [U]
    bid_nano_A: Ints  # by channel, the most that one exposure may cost; may change between rounds
    fingerprint: str  # of the data and settings behind its outcomes; a campaign resumes only with the same one

    def reset(self, campaign: str) -> Iterator[tuple[Moment, Outcome]]:
        """Begin or resume the campaign with that key; the exposures of the past with their moments, oldest first."""

    def moment(self, round_number: int) -> Moment:
        """The start of a round. Repeated calls return the same moment."""

    def step(self, round_number: int, user_N: Ints, channel_N: Ints, bid_nano_N: Ints) -> Outcome:
        """Offer each of these users of the moment (no user twice) that channel, at no more than that price."""

    def recover(self, round_number: int, outcome: Outcome) -> None:
        """After a restart: this outcome was returned before. An environment with persistent state ignores it."""

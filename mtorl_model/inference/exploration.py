"""Channels that are drawn for a share of the users, so that tomorrow's log shows what other channels are worth.

With the share e and A channels, a user is explored with the probability e, and then gets each channel with the
probability 1 / A. So the recommended channel is chosen with the probability 1 - e + e / A, any other one with e / A.
This is the propensity; a log that brings it back identifies the value of every policy (evaluation/off_policy.py).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mtorl_model.methods.common.keyed_draws import uniform_draws
from schemas.basis import BASES
from schemas.errors import UserError


@dataclass(frozen=True, slots=True)
class Recommendation:
    """How channels are chosen for users. exploration: e, from 0 to 1."""

    basis: str
    exploration: float = 0.0

    def __post_init__(self) -> None:
        if self.basis not in BASES:
            raise UserError(f"unknown basis '{self.basis}': choose one of {', '.join(BASES)}")
        if not 0 <= self.exploration <= 1:
            raise UserError(f"exploration {self.exploration}: choose a share from 0 to 1")

    def __str__(self) -> str:
        return self.basis + (f", exploration {self.exploration:g}" if self.exploration else "")


class Chosen(NamedTuple):
    """The channel of each user, whether it was drawn, and its propensity; [X]."""

    channel_X: npt.NDArray[np.int64]
    explored_X: npt.NDArray[np.bool_]
    propensity_X: npt.NDArray[np.float64]


def explore(best_X: npt.NDArray[np.int64], user_id: pa.Array, day: str, channels: int, exploration: float) -> Chosen:
    """Draw a channel for a share of the users. The draw depends on the user and the day alone."""
    share_X, draw_X = (uniform_draws(user_id, f"{purpose} {day}") for purpose in ("share", "drawn"))
    explored_X = share_X < exploration
    drawn_X = np.minimum((draw_X * channels).astype(np.int64), channels - 1)
    channel_X = np.where(explored_X, drawn_X, best_X)
    propensity_X = exploration / channels + (1 - exploration) * (channel_X == best_X)
    return Chosen(channel_X, explored_X, propensity_X)

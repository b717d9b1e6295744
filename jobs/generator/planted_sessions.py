"""A planted world in which the rest of the session matters for the loss: sessions with labels and their importance.

A session has either one exposure or LENGTH. In long sessions a label is likelier the larger x is, in short ones the
smaller, and there are as many exposures of the one kind as of the other. A model with a single slope for x can fit only
one kind, and without weights it fits neither. Here an exposure counts by the cross-entropies of a constant prediction
from this exposure to the end of its session, discounted: most at the beginning of a long session.

Shapes: N exposures, S sessions.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.logistic import sigmoid

LENGTH = 8
SLOPE = 2.0
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class PlantedSessions(NamedTuple):
    """Exposures in the order of their sessions. Each session belongs to a different user."""

    session_N: Ints
    place_N: Ints  # in a long session, from 1; 0 in a short one
    x_N: Floats
    label_N: npt.NDArray[np.bool_]

    def importance(self, gamma: float) -> Floats:
        """[N]: log 2 for each exposure from here to the end of its session, discounted by gamma < 1."""
        left_N = np.where(self.place_N > 0, LENGTH + 1 - self.place_N, 1)
        importance_N: Floats = np.log(2) * (1 - gamma**left_N) / (1 - gamma)
        return importance_N


def draw_planted_sessions(long_sessions: int, seed: int) -> PlantedSessions:
    """That many long sessions, and LENGTH times as many short ones, in random order."""
    rng = np.random.default_rng(seed)
    length_S = rng.permutation(np.repeat([LENGTH, 1], [long_sessions, LENGTH * long_sessions]))
    session_N = np.repeat(np.arange(len(length_S)), length_S)
    position_N = np.arange(len(session_N)) - np.searchsorted(session_N, session_N)
    place_N = np.where(length_S[session_N] == LENGTH, position_N + 1, 0)
    x_N = rng.normal(size=len(session_N))
    label_N = rng.random(len(x_N)) < sigmoid(np.where(place_N > 0, SLOPE, -SLOPE) * x_N)
    return PlantedSessions(session_N, place_N, x_N, label_N)

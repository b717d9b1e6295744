"""A world in which the rest of the session matters for the loss.

Sessions have either one exposure or eight. In long sessions a label is likelier the larger x is, in short ones the
smaller. There are as many exposures of the one kind as of the other. The actor has one slope for x, so it can fit only
one kind, and without weights it fits neither. An exposure counts by the cross-entropies of a constant prediction from
here to the end of its session, discounted: most at the beginning of a long session.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from candidate_rows import store_of
from torch import Tensor

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.methods.common.multitask import CandidateSizes, MultiTaskNetwork, NetworkConfig

LENGTH = 8
SLOPE = 2.0
SIZES = CandidateSizes((LENGTH + 1,), 1, 1)
Floats = npt.NDArray[np.float64]


class OneSlope(MultiTaskNetwork):
    """A logistic regression: a number for each code, and one slope for x, whatever the code is."""

    def __init__(self) -> None:
        super().__init__(NetworkConfig(embedding=1, bottom=(1,), batch_norm=False), SIZES)

    def build(self) -> None:
        self.slope = torch.nn.Linear(self.inputs.size, 1)

    def forward(self, categorical_NK: Tensor, numeric_NF: Tensor) -> Tensor:
        p_NT: Tensor = self.slope(self.inputs(categorical_NK, numeric_NF)).sigmoid()
        return p_NT


def planted_sessions(long_sessions: int, seed: int) -> CandidateStore:
    """The code is the place in a long session, from 1, and 0 in a short one."""
    rng = np.random.default_rng(seed)
    short_sessions = LENGTH * long_sessions
    length_S = rng.permutation(np.repeat([LENGTH, 1], [long_sessions, short_sessions]))
    session_N = np.repeat(np.arange(len(length_S)), length_S)
    position_N = np.arange(len(session_N)) - np.searchsorted(session_N, session_N)
    code_N = np.where(length_S[session_N] == LENGTH, position_N + 1, 0)
    x_N = rng.normal(size=len(session_N))
    odds_N = np.where(code_N > 0, SLOPE, -SLOPE) * x_N
    label_N = rng.random(len(x_N)) < 1 / (1 + np.exp(-odds_N))
    return store_of(session_N, code_N[:, None], x_N[:, None], label_N[:, None], SIZES.vocabulary)


def importance(store: CandidateStore, gamma: float) -> Floats:
    """[N]: log 2 for each exposure from here to the end of its session, discounted."""
    code_N: npt.NDArray[Any] = store.categorical_NK[:, 0]
    left_N = np.where(code_N > 0, LENGTH + 1 - code_N, 1)
    value_N: Floats = np.log(2) * (1 - gamma**left_N) / (1 - gamma)
    return value_N

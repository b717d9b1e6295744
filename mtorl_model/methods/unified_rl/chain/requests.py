"""Requests: the exposures of a session in their order, a few at a time, and the state before each request.

A log that shows neither requests nor candidate lists has one substitute for a candidate list: what was shown. The list
of a request has its own exposures and, as far as there is room, the user's exposures just before it, because a list of
one cannot be ranked.

Shapes: N exposures, R requests, L places of a list, S state.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.candidate_inputs import candidate_names
from mtorl_model.data.candidate_store import CandidateStore
from schemas.dataset import Dataset

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# A state leaves out categories with more codes, because each code is a column.
MOST_CODES = 4
# Scaled numbers of a state are clipped at this many standard deviations, closer than those of a prediction's inputs.
STATE_LIMIT = 3.0


@dataclass(frozen=True, slots=True)
class Requests:
    """request_N: the request of each exposure. first_R: the row of a request's first exposure.

    list_RL: the rows of a request's list, in their order; -1 where the list is shorter.
    """

    request_N: Ints
    first_R: Ints
    list_RL: Ints

    def __len__(self) -> int:
        return len(self.first_R)


def requests_of(store: CandidateStore, list_length: int) -> Requests:
    """The requests of the store, whose rows are sorted by user and time; at most list_length exposures each."""
    rows_N = np.arange(len(store))
    start_N = np.repeat(store.session_start_S, np.diff(store.session_start_S, append=len(store)))
    is_first_N = (rows_N - start_N) % list_length == 0
    first_R = np.flatnonzero(is_first_N)
    last_R = np.append(first_R, len(store))[1:] - 1
    user_start_N = np.searchsorted(store.user_N, store.user_N)
    list_RL = last_R[:, None] - np.arange(list_length)[::-1]
    list_RL = np.where(list_RL >= user_start_N[first_R][:, None], list_RL, -1)
    return Requests(np.cumsum(is_first_N) - 1, first_R, list_RL)


def states(store: CandidateStore, rows: Ints, dataset: Dataset) -> Floats:
    """[R, S]: the profile, the behaviour and the statistics of the user before the exposures of these rows.

    These are the inputs of a prediction that do not depend on the candidate: numbers, 0 if missing, and a 0 or 1 for
    each code of a category with few codes.
    """
    left_out = candidate_names(dataset)
    numbers = [f for f, name in enumerate(store.numeric_names) if name not in left_out]
    parts = [np.clip(store.numeric_NF[rows][:, numbers].astype(np.float64), -STATE_LIMIT, STATE_LIMIT)]
    for k, (name, codes) in enumerate(zip(store.categorical_names, store.cardinalities, strict=True)):
        if name not in left_out and codes <= MOST_CODES:
            parts.append(np.eye(codes)[store.categorical_NK[rows, k]])
    return np.concatenate(parts, axis=1)

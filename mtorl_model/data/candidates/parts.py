"""The rows to fit the inputs, to train, to stop and to measure on, by protocol. Studies never read a test user."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mtorl_model.data.candidate_store import CandidateStore
from schemas.splits import SPLITS, TEST, TRAIN, VALIDATION

_STOP_PARTS = 10  # one of this many parts of the training users decides when to stop
UNSEEN_USERS, PUBLISHED_TIME_SPLIT = "unseen-users", "published-time-split"
_TIME_LIMITS = (0.6, 0.8)  # shares of the exposures, by time


class Parts(NamedTuple):
    """Rows of whole sessions. note: which users are in more than one part."""

    train: CandidateStore
    valid: CandidateStore
    test: CandidateStore
    note: str


def by_user(store: CandidateStore) -> Parts:
    """Training users, of whom a tenth chooses when to stop, and the validation users to measure on; no test user."""
    train, test = store.split_rows(TRAIN), store.split_rows(VALIDATION)
    users = np.unique(train.user_N)
    stopping = np.random.default_rng(0).permutation(users)[: -(-len(users) // _STOP_PARTS)]
    stops_N = np.isin(train.user_N, stopping)
    fit, stop = (train.take(np.flatnonzero(chosen_N)) for chosen_N in (~stops_N, stops_N))
    return Parts(fit, stop, test, "no user is in two parts")


def by_time(store: CandidateStore) -> Parts:
    """6 : 2 : 2 by time, as in the RMTL paper, without test users; a session goes where it starts.

    The limits are the quantiles .6 and .8 of the exposures' times. The published code swaps validation and test; here
    the test is the latest part.
    """
    store = store.take(np.flatnonzero(store.split_N != SPLITS.index(TEST)))
    limits = np.quantile(store.exposed_at_ms_N, _TIME_LIMITS, method="lower")
    starts = store.session_start_S
    length_S = np.diff(starts, append=len(store))
    part_S = np.searchsorted(limits, store.exposed_at_ms_N[starts], side="right")
    part_N = np.repeat(part_S, length_S)
    train, valid, test = (store.take(np.flatnonzero(part_N == part)) for part in range(3))
    seen_U = np.isin(np.unique(test.user_N), train.user_N)
    rows = np.isin(test.user_N, train.user_N)
    note = (
        f"{seen_U.mean():.0%} of the test users, with {rows.mean():.0%} of the test exposures, are in the training part"
    )
    return Parts(train, valid, test, note)


def _training_users(rows: pa.Table) -> npt.NDArray[np.bool_]:
    return _in_split(rows, TRAIN)


def _first_part_of_time(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether a row is before the first limit of by_time and not of a test user."""
    time_N, is_test_N = rows.column("exposed_at_ms").to_numpy(), _in_split(rows, TEST)
    is_fitted_N: npt.NDArray[np.bool_] = ~is_test_N
    is_fitted_N &= time_N < np.quantile(time_N[~is_test_N], _TIME_LIMITS[0], method="lower")
    return is_fitted_N


def _in_split(rows: pa.Table, split: str) -> npt.NDArray[np.bool_]:
    is_in_N: npt.NDArray[np.bool_] = rows.column("split").to_numpy() == SPLITS.index(split)
    return is_in_N


class Protocol(NamedTuple):
    """fitted_on: which candidate rows, [N], the encoding of the inputs is fitted on. parts: of all encoded rows."""

    fitted_on: Callable[[pa.Table], npt.NDArray[np.bool_]]
    parts: Callable[[CandidateStore], Parts]


PROTOCOLS: Mapping[str, Protocol] = {
    UNSEEN_USERS: Protocol(_training_users, by_user),
    PUBLISHED_TIME_SPLIT: Protocol(_first_part_of_time, by_time),
}

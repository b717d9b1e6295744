"""The rows to train, to stop and to measure on, by protocol. Studies never read a test user."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from mtorl_model.data.candidate_store import CandidateStore
from schemas.splits import SPLITS, TEST, TRAIN, VALIDATION

_STOP_PARTS = 10  # one of this many parts of the training users decides when to stop
UNSEEN_USERS, PUBLISHED_TIME_SPLIT = "unseen-users", "published-time-split"


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
    limits = np.quantile(store.exposed_at_ms_N, (0.6, 0.8), method="lower")
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


PROTOCOLS: Mapping[str, Callable[[CandidateStore], Parts]] = {UNSEEN_USERS: by_user, PUBLISHED_TIME_SPLIT: by_time}

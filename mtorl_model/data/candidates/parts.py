"""The rows that train, that validate and that test, by protocol."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from mtorl_model.data.candidate_store import CandidateStore
from schemas.splits import TEST, TRAIN, VALIDATION

UNSEEN_USERS, PUBLISHED_TIME_SPLIT = "unseen-users", "published-time-split"


class Parts(NamedTuple):
    """Rows of whole sessions. note: which users are in more than one part."""

    train: CandidateStore
    valid: CandidateStore
    test: CandidateStore
    note: str


def by_user(store: CandidateStore) -> Parts:
    """The splits of the project, by user."""
    train, valid, test = (store.split_rows(split) for split in (TRAIN, VALIDATION, TEST))
    return Parts(train, valid, test, "no user is in two parts")


def by_time(store: CandidateStore) -> Parts:
    """6 : 2 : 2 by time, as in the RMTL paper; a session goes where it starts.

    The limits are the quantiles .6 and .8 of the exposures' times. The published code swaps validation and test; here
    the test is the latest part.
    """
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

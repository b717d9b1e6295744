from dataclasses import replace

import numpy as np
import pyarrow as pa
from candidate_rows import candidate_store

from mtorl_model.data.candidates.parts import PROTOCOLS, PUBLISHED_TIME_SPLIT, UNSEEN_USERS, by_time, by_user
from schemas.splits import SPLITS, TEST, TRAIN, VALIDATION


def test_no_user_is_in_two_parts_and_no_test_user_in_any():
    splits = [TRAIN] * 30 + [VALIDATION] * 5 + [TEST] * 5
    store = candidate_store(np.arange(40), split=splits)
    fit, stop, test, _ = by_user(store)
    assert test.session_N.tolist() == list(range(30, 35))
    assert sorted([*fit.session_N, *stop.session_N]) == list(range(30))
    assert len(stop) == 3
    assert all((part.session_N < 35).all() for part in by_time(store)[:3])


def test_a_session_goes_where_it_starts_and_the_test_is_the_latest_part():
    session = np.repeat(np.arange(20), 5)
    store = candidate_store(session)  # exposures follow one another in time
    parts = by_time(store)
    sessions = [np.unique(part.session_N).tolist() for part in parts[:3]]
    assert sessions == [list(range(12)), list(range(12, 16)), list(range(16, 20))]
    moved = candidate_store(session)
    moved.exposed_at_ms_N[57:60] = store.exposed_at_ms_N[-1] + 1  # the end of session 11 is after all others
    assert 11 in by_time(moved).train.session_N
    assert sum(len(part) for part in by_time(moved)[:3]) == len(store)


def test_the_note_counts_users_in_both_parts():
    store = candidate_store(np.repeat(np.arange(20), 5))
    assert by_time(store).note.startswith("0% of the test users, with 0% of the test exposures")
    user_N = store.user_N.copy()
    user_N[80:95] = 0  # of three of the four test sessions
    assert by_time(replace(store, user_N=user_N)).note.startswith(
        "50% of the test users, with 75% of the test exposures"
    )


def test_inputs_are_fitted_on_training_rows_alone():
    splits = [TRAIN, VALIDATION] * 50 + [TEST] * 20
    store = candidate_store(np.arange(120), split=splits)  # exposures follow one another in time
    rows = pa.table({"exposed_at_ms": store.exposed_at_ms_N, "split": [SPLITS.index(split) for split in splits]})
    for protocol in (UNSEEN_USERS, PUBLISHED_TIME_SPLIT):
        fitted_on, parts = PROTOCOLS[protocol]
        fit, _, measured, _ = parts(store)
        fitted_N = store.exposure_id_N[fitted_on(rows)]
        assert {*fit.exposure_id_N} <= {*fitted_N}
        assert not {*measured.exposure_id_N} & {*fitted_N}
    assert np.flatnonzero(PROTOCOLS[PUBLISHED_TIME_SPLIT].fitted_on(rows)).tolist() == list(range(59))

"""The rows of candidates: their arrays, their sessions, the choice of rows."""

import numpy as np
import pytest
from candidate_rows import candidate_store

from schemas.splits import TEST, TRAIN


def test_sessions_begin_and_end_where_their_number_changes():
    store = candidate_store(session=[0, 0, 0, 1, 4, 4])
    assert store.session_start_S.tolist() == [0, 3, 4]
    assert store.is_last_N.tolist() == [False, False, True, True, False, True]


def test_a_split_has_the_rows_of_its_users():
    store = candidate_store(session=[0, 0, 1, 2], split=[TRAIN, TRAIN, TEST, TRAIN])
    assert store.split_rows(TEST).exposure_id_N.tolist() == [2]
    assert store.split_rows(TRAIN).session_start_S.tolist() == [0, 2]


def test_trees_see_missing_numbers_as_nan_and_only_the_chosen_categories():
    store = candidate_store(session=[0, 1])
    store.missing_NF[1, 0] = True
    features_NX = store.features(store.categorical_names[:1])
    assert features_NX.shape == (2, len(store.numeric_names) + 1)
    assert np.isnan(features_NX).tolist() == [[False] * features_NX.shape[1], [True] + [False] * 2]


def test_sessions_out_of_order_are_refused():
    with pytest.raises(ValueError, match="sorted by session"):
        candidate_store(session=[1, 0])


def test_arrays_that_do_not_fit_the_names_are_refused():
    with pytest.raises(ValueError, match="labels_NT"):
        candidate_store(session=[0, 1], task_names=("click",))

"""Requests and their lists; the state depends neither on the candidate nor on a later exposure."""

from dataclasses import replace

import numpy as np
from candidate_rows import store_of
from hypothesis import given
from hypothesis import strategies as st

from features.candidate_inputs import candidate_names, category_names, number_names
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.methods.unified_rl.chain.requests import requests_of, states
from schemas.dataset import get_dataset

KUAIRAND = get_dataset("kuairand")


def store(sessions: list[int], user_of_session: list[int] | None = None) -> CandidateStore:
    session_N = np.repeat(np.arange(len(sessions)), sessions)
    rng = np.random.default_rng(0)
    exposures = store_of(
        session_N, rng.integers(0, 3, (len(session_N), 1)), rng.normal(size=(len(session_N), 2)),
        np.zeros((len(session_N), 2)), (3,),
    )  # fmt: skip
    return exposures if user_of_session is None else replace(exposures, user_N=np.repeat(user_of_session, sessions))


def test_a_request_has_the_next_exposures_of_its_session_and_its_list_the_ones_before():
    requests = requests_of(store([5, 1, 2], [0, 0, 1]), list_length=3)
    assert requests.request_N.tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    assert requests.first_R.tolist() == [0, 3, 5, 6]
    assert requests.list_RL.tolist() == [[0, 1, 2], [2, 3, 4], [3, 4, 5], [-1, 6, 7]]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(2, 5))
def test_every_exposure_is_in_one_request_of_its_session_and_in_its_list(sessions, list_length):
    exposures = store(sessions)
    requests = requests_of(exposures, list_length)
    assert (np.diff(requests.request_N) >= 0).all()
    for number, first in enumerate(requests.first_R):
        rows = np.flatnonzero(requests.request_N == number)
        assert rows[0] == first
        assert 1 <= len(rows) <= list_length
        assert len({*exposures.session_N[rows]}) == 1
        list_rows = requests.list_RL[number]
        assert {*rows} <= {*list_rows[list_rows >= 0]}
        assert {*exposures.user_N[list_rows[list_rows >= 0]]} == {exposures.user_N[first]}


def test_the_state_has_no_input_of_the_candidate():
    left_out = candidate_names(KUAIRAND)
    assert {"channel", "video_id", "author_id", "tag", "video_duration_ms"} <= left_out
    assert {"channel_exposures", "channel_rate_click", "same_tag", "video_id_exposures", "tag_rate_click"} <= left_out
    state_names = {*category_names(KUAIRAND), *number_names(KUAIRAND)} - left_out
    assert {
        "hour",
        "tab",
        "register_days",
        "seen_click",
        "rate_click",
        "mean_like",
        "session_click",
        "gap_s",
    } <= state_names
    assert not {name for name in state_names if name.startswith(("same_", "video_", "author_", "channel"))}


def test_a_state_reads_its_own_row_and_codes_become_columns():
    exposures = store([2, 2])
    state_RS = states(exposures, np.array([0, 2]), KUAIRAND)
    assert state_RS.shape == (2, 2 + 3)
    np.testing.assert_array_equal(state_RS[:, 2:].argmax(axis=1), exposures.categorical_NK[[0, 2], 0])
    later = replace(exposures, numeric_NF=exposures.numeric_NF + np.array([[0.0], [9.0], [0.0], [9.0]], np.float32))
    np.testing.assert_array_equal(states(later, np.array([0, 2]), KUAIRAND), state_RS)
    named = replace(exposures, numeric_names=("video_duration_ms", "gap_s"))
    assert states(named, np.array([0]), KUAIRAND).shape == (1, 1 + 3)
    tagged = replace(exposures, categorical_names=("tag",))
    assert states(tagged, np.array([0]), KUAIRAND).shape == (1, 2)

"""The pool of steps is complete and ordered; windows are drawn and cut from it."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import padded_windows, write_lake

from mtorl_model.data.encoding import Encoder
from mtorl_model.data.windows.step_pool import StepPool
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.splits import TEST, TRAIN, VALIDATION, split_of

KUAIRAND = get_dataset("kuairand")
N = 6


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return write_lake(tmp_path_factory.mktemp("lake"), users=30)


@pytest.fixture(scope="module")
def pool(lake) -> StepPool:
    return StepPool(lake[0], KUAIRAND, Encoder(lake[1], KUAIRAND))


def all_windows(lake) -> pa.Table:
    return padded_windows(lake[0], KUAIRAND, lake[1], lake[0].days("sequences", "kuairand"))


def test_the_pool_has_every_step_of_every_user_once_and_in_order(lake, pool):
    windows = all_windows(lake)
    exposure_ids = {x for row in windows.column("exposure_id").to_pylist() for x in row if x is not None}
    steps = pool.steps
    assert sorted(steps["exposure_id"]) == sorted(exposure_ids)
    order = list(zip(steps["user_id"], steps["exposed_at_ms"], steps["exposure_id"], strict=True))
    assert order == sorted(order)


def test_the_pool_has_only_users_of_the_given_splits(lake, pool):
    encoder = Encoder(lake[1], KUAIRAND)
    train_and_validation = StepPool(lake[0], KUAIRAND, encoder, splits=(TRAIN, VALIDATION))
    assert set(train_and_validation.user_U) == {u for u in pool.user_U if split_of(u) != TEST} < set(pool.user_U)
    with pytest.raises(UserError, match="no sequences for kuairand"):
        StepPool(lake[0], KUAIRAND, encoder, splits=())


def test_a_drawn_window_has_consecutive_steps_of_one_user(pool):
    drawn = pool.draw(500, N, np.random.default_rng(0))
    for window in drawn:
        real = window[window >= 0]
        assert (window[: N - len(real)] == -1).all()  # padding on the left
        assert (np.diff(real) == 1).all()
        users = pool.steps["user_id"][real]
        assert len(set(users)) == 1
        assert len(real) == min(N, (pool.steps["user_id"] == users[0]).sum())
    assert len({tuple(w) for w in drawn}) < 500  # with replacement


def test_windows_contain_their_steps_and_zeros_at_padding(pool):
    drawn = pool.draw(50, N, np.random.default_rng(1))
    drawn[0] = [-1, -1, 0, 1, 2, 3]
    windows = pool.windows(drawn)
    assert np.array_equal(windows.valid_NL, drawn >= 0)
    assert windows.action_NL[0].tolist() == [-1, -1, *pool.steps["action_NL"][:4]]
    assert not windows.numeric_NLF[0, :2].any()
    assert np.array_equal(windows.numeric_NLF[0, 2:], pool.steps["numeric_NLF"][:4])
    assert np.array_equal(windows.label_NL, (drawn >= 0) & (windows.action_NL >= 0))
    assert windows.profile_numeric_NF.shape == (50, pool.steps["profile_numeric_NF"].shape[1])


@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=12), n=st.integers(2, 25), data=st.data())
def test_every_step_after_a_users_first_is_a_label_once_with_half_a_window_before_it(lengths, n, data):
    chosen_U = np.array(data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths))))
    pool = StepPool.__new__(StepPool)  # cutting needs only the lengths
    pool.length_U = np.array(lengths)
    pool.start_U = np.cumsum(lengths) - lengths
    step_WL, label_WL = pool.cut(chosen_U, n)
    expected = [s + t for s, t, c in zip(pool.start_U, lengths, chosen_U, strict=True) if c for t in range(1, t)]
    assert sorted(step_WL[label_WL]) == expected
    for steps, labels in zip(step_WL, label_WL, strict=True):
        real = steps[steps >= 0]
        assert len(real)
        assert (steps[n - len(real) :] == real).all()
        assert (np.diff(real) == 1).all()
        start = pool.start_U[np.searchsorted(pool.start_U, real[-1], side="right") - 1]
        for position in np.flatnonzero(labels):
            assert position - (n - len(real)) >= min(steps[position] - start, n // 2)
        assert real[0] >= start


def test_cutting_all_users_gives_the_labels_of_the_table(lake, pool):
    """Both label every exposure except a user's first."""
    t = all_windows(lake)
    labels = [
        exposure
        for row, flags in zip(t.column("exposure_id").to_pylist(), t.column("is_label").to_pylist(), strict=True)
        for exposure, flag in zip(row, flags, strict=True)
        if flag
    ]
    step_WL, label_WL = pool.cut(np.ones(len(pool.user_U), dtype=bool), 20)
    assert sorted(pool.steps["exposure_id"][step_WL[label_WL]]) == sorted(labels)

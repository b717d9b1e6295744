"""Exploration: known propensities, the same draw every time, and an unbiased log."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtorl_model.inference.exploration import Recommendation, explore
from schemas.errors import UserError

USERS = pa.array(np.arange(30_000))
BEST = np.arange(30_000) % 3
DAY = "2022-04-30"


def test_without_exploration_everyone_gets_the_recommended_channel():
    chosen = explore(BEST, USERS, DAY, 3, 0.0)
    np.testing.assert_array_equal(chosen.channel_X, BEST)
    assert not chosen.explored_X.any()
    np.testing.assert_array_equal(chosen.propensity_X, 1.0)


def test_channels_are_chosen_as_often_as_the_propensities_say():
    share = 0.3
    chosen = explore(BEST, USERS, DAY, 3, share)
    assert chosen.explored_X.mean() == pytest.approx(share, abs=0.01)
    for channel in range(3):
        # A log weighted by 1 / propensity has each channel once per user.
        is_channel_N = chosen.channel_X == channel
        assert (is_channel_N / chosen.propensity_X).mean() == pytest.approx(1.0, abs=0.05)
    assert set(chosen.propensity_X.round(12)) == {round(share / 3, 12), round(share / 3 + 1 - share, 12)}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 29_999), min_size=1, max_size=50, unique=True), st.floats(0, 1))
def test_the_draw_depends_on_the_user_and_the_day_alone(users, share):
    expected = explore(BEST, USERS, DAY, 3, share)
    chosen = explore(BEST[users], USERS.take(pa.array(users)), DAY, 3, share)
    np.testing.assert_array_equal(chosen.channel_X, expected.channel_X[users])
    np.testing.assert_array_equal(chosen.propensity_X, expected.propensity_X[users])


def test_another_day_explores_other_users():
    first, second = (explore(BEST, USERS, day, 3, 0.5).explored_X for day in (DAY, "2022-05-01"))
    assert (first == second).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("basis", "share", "message"), [("best", 0.0, "unknown basis 'best'"), ("value", 1.5, "1.5")])
def test_a_wrong_choice_is_one_clear_line(basis, share, message):
    with pytest.raises(UserError, match=message):
        Recommendation(basis, share)

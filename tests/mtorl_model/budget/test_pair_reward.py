"""The value of a (user, channel) pair in closed form: prediction, record, lift and costs."""

import numpy as np
import pytest

from mtorl_model.budget.pair_reward import KAPPA, pair_click, pair_cost_nano, pair_reward
from mtorl_model.inference.channel_level import ChannelCounts, channel_level


def test_a_pair_without_a_record_is_the_prediction_moved_by_the_channel():
    policy = np.array([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    lift, no_record = np.array([1.0, 2.0, 0.5]), np.zeros((2, 3), int)
    click = pair_click(np.array([0.2, 0.5]), policy, lift, no_record, no_record)
    assert click[0, 1] == pytest.approx(0.2)  # the channel of the prediction
    odds = click / (1 - click)
    np.testing.assert_allclose(odds / odds[:, :1], [lift, lift])
    assert odds[1, 0] * odds[1, 1] == pytest.approx(1.0)  # the prediction is in the middle of its two channels
    reward = pair_reward(np.array([0.05, 0.1]), np.array([0.2, 0.5]), click)
    np.testing.assert_allclose(reward / click, [[0.25] * 3, [0.2] * 3])


def test_a_certain_click_stays_a_number():
    click = pair_click(np.array([0.0, 1.0]), np.full((2, 2), 0.5), np.array([1.0, 3.0]), *np.zeros((2, 2, 2), int))
    assert np.isfinite(click).all()
    assert ((click >= 0) & (click <= 1)).all()


def test_a_record_changes_only_the_value_of_its_channel():
    exposures, clicks = np.array([[30, 0], [30, 0]]), np.array([[30, 0], [0, 0]])
    click = pair_click(np.array([0.3, 0.3]), np.full((2, 2), 0.5), np.ones(2), exposures, clicks)
    np.testing.assert_allclose(click, [[(30 + 0.3 * KAPPA) / (30 + KAPPA), 0.3], [0.3 * KAPPA / (30 + KAPPA), 0.3]])


def test_no_reward_is_above_one():
    """For a user with a tiny predicted click and a good record."""
    click = pair_click(np.array([1e-6, 0.3]), np.full((2, 2), 0.5), np.ones(2), np.full((2, 2), 6), np.full((2, 2), 3))
    reward = pair_reward(np.array([0.02, 0.2]), np.array([1e-6, 0.3]), click)
    assert reward[0].tolist() == [1.0, 1.0]
    assert (reward[1] < 1).all()


def test_a_click_has_its_own_price():
    exposures, clicks = np.array([2000, 2000]), np.array([1000, 1000])
    costs, click_costs = np.array([10**6, 10**6]), np.array([10**6, 5 * 10**6])
    level = channel_level("ab", ChannelCounts(exposures, clicks, np.zeros(2, int), costs, click_costs))
    cost = pair_cost_nano(np.array([[0.0, 0.0], [1.0, 1.0]]), level)
    assert cost[0].tolist() == [1000, 1000]
    assert abs(cost[1, 0] - 1000) < 30
    assert abs(cost[1, 1] - 5000) < 30

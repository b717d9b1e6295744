"""The behaviour model does what its equations say."""

import numpy as np
import pytest

from jobs.generator.behaviour import DAY_S, NO_CHANNEL, criteo_world, kuairand_world
from jobs.generator.policy import LoggingPolicy

WORLDS = [kuairand_world(), criteo_world()]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("model", WORLDS, ids=["kuairand", "criteo"])
def test_chances_follow_the_equations(model, rng):
    state = model.initial_state(50, rng)
    for channel in (1, 0, 1):
        model.step(state, np.full(50, channel), rng)
    h = model.home_share
    affinity_UC = (np.sqrt(h) * state.home_UD + np.sqrt(1 - h) * state.mood_UD) @ model.taste_CD.T
    fatigue_UC = np.zeros((50, len(model.channels)))
    fatigue_UC[:, :2] = [1, 2]
    click_UC = sigmoid(model.click_bias_C + affinity_UC - model.fatigue_weight * fatigue_UC)
    given_click_UC = sigmoid(model.conversion_bias_C + model.conversion_slope * affinity_UC)
    np.testing.assert_allclose(model.affinity(state), affinity_UC)
    np.testing.assert_allclose(model.click_probability(state), click_UC)
    np.testing.assert_allclose(model.conversion_probability(state), click_UC * given_click_UC)


@pytest.mark.slow(0.5)
@pytest.mark.parametrize("model", WORLDS, ids=["kuairand", "criteo"])
def test_outcomes_have_the_stated_chances(model, rng):
    users = 200_000
    state = model.initial_state(users, rng)
    channel_U = rng.integers(len(model.channels), size=users)
    shown = np.arange(users), channel_U
    click_U, conversion_U = model.click_probability(state)[shown], model.conversion_probability(state)[shown]
    outcomes = model.step(state, channel_U, rng)
    assert outcomes.click_U.mean() == pytest.approx(click_U.mean(), abs=0.005)
    assert outcomes.conversion_U.mean() == pytest.approx(conversion_U.mean(), abs=0.002)
    assert outcomes.click_U[outcomes.conversion_U].all()
    assert (outcomes.delay_s_U[~outcomes.conversion_U] == 0).all()
    assert (state.previous_U == channel_U).all()


def test_repeats_tire_and_rest_restores(rng):
    model = criteo_world()
    state = model.initial_state(100, rng)
    fresh_UC = model.click_probability(state)
    for _ in range(5):
        previous_UC = model.click_probability(state)
        model.step(state, np.full(100, 3), rng)
        click_UC = model.click_probability(state)
        assert (click_UC[:, 3] < previous_UC[:, 3]).all()
        np.testing.assert_array_equal(np.delete(click_UC, 3, axis=1), np.delete(previous_UC, 3, axis=1))
    mood_UD = state.mood_UD.copy()
    model.advance(state, np.full(100, 30 * DAY_S), rng)
    state.mood_UD[:] = mood_UD  # leave the drift aside
    np.testing.assert_allclose(model.click_probability(state), fresh_UC)


@pytest.mark.parametrize("days", [0.0, 0.5, 3.0, 60.0])
def test_interests_drift_but_keep_their_spread(days, rng):
    model = kuairand_world()
    state = model.initial_state(100_000, rng)
    home_UD, mood_UD = state.home_UD.copy(), state.mood_UD.copy()
    model.advance(state, np.full(100_000, days * DAY_S), rng)
    np.testing.assert_array_equal(state.home_UD, home_UD)
    assert np.corrcoef(mood_UD[:, 0], state.mood_UD[:, 0])[0, 1] == pytest.approx(np.exp(-days / 3), abs=0.015)
    np.testing.assert_allclose(state.mood_UD.std(axis=0), 1, atol=0.015)


def test_two_half_steps_of_time_are_one(rng):
    model = criteo_world()
    single, halves = (model.initial_state(100_000, np.random.default_rng(1)) for _ in range(2))
    for state in (single, halves):
        state.fatigue_UC += 1
        state.mood_UD[:] = 2.0
    model.advance(single, np.full(100_000, DAY_S), rng)
    model.advance(halves, np.full(100_000, DAY_S / 2), rng)
    model.advance(halves, np.full(100_000, DAY_S / 2), rng)
    np.testing.assert_allclose(single.fatigue_UC, halves.fatigue_UC)
    np.testing.assert_allclose(single.mood_UD.mean(axis=0), halves.mood_UD.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(single.mood_UD.std(axis=0), halves.mood_UD.std(axis=0), atol=0.02)


@pytest.mark.slow
def test_conversions_take_days(rng):
    model = criteo_world()
    outcomes = [model.step(model.initial_state(60_000, rng), np.full(60_000, c), rng) for c in range(11)]
    delay_s = np.concatenate([o.delay_s_U[o.conversion_U] for o in outcomes])
    assert np.median(delay_s) == pytest.approx(3.7 * DAY_S, rel=0.08)
    assert 20 * DAY_S < delay_s.max() <= 30 * DAY_S
    assert (delay_s > 0).all()


def test_cost_has_its_mean(rng):
    model = criteo_world()
    outcomes = model.step(model.initial_state(100_000, rng), np.full(100_000, 4), rng)
    for clicked, factor in ((False, 1.0), (True, 1 + model.click_surcharge)):
        assert outcomes.cost_U[outcomes.click_U == clicked].mean() == pytest.approx(model.cost_C[4] * factor, rel=0.03)
    assert (kuairand_world().step(kuairand_world().initial_state(9, rng), np.zeros(9, int), rng).cost_U == 0).all()


def test_a_head_is_a_view(rng):
    model = kuairand_world()
    state = model.initial_state(10, rng)
    model.step(state.head(4), np.array([0, 1, 2, 0]), rng)
    assert state.previous_U.tolist() == [0, 1, 2, 0, *[NO_CHANNEL] * 6]
    assert state.fatigue_UC.sum(axis=1).tolist() == [1.0] * 4 + [0.0] * 6
    mood_UD = state.mood_UD.copy()
    model.advance(state.head(4), np.full(4, DAY_S), rng)
    assert (state.mood_UD != mood_UD).all(axis=1).tolist() == [True] * 4 + [False] * 6


def test_a_world_is_the_same_each_time_it_is_built():
    first, second = criteo_world(), criteo_world()
    np.testing.assert_array_equal(first.taste_CD, second.taste_CD)


def test_the_policy_mixes_repeating_with_taste(rng):
    model = kuairand_world()
    policy = LoggingPolicy(np.array([0.5, 0.3, 0.2]), greed=0.7, stickiness=0.4)
    state = model.initial_state(6, rng)
    weight_UC = policy.share_C * np.exp(0.7 * model.affinity(state))
    taste_UC = weight_UC / weight_UC.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(policy.probabilities(model, state), taste_UC)
    model.step(state.head(3), np.array([2, 0, 1]), rng)
    expected_UC = taste_UC.copy()
    expected_UC[:3] = 0.6 * taste_UC[:3] + 0.4 * np.eye(3)[[2, 0, 1]]
    np.testing.assert_allclose(policy.probabilities(model, state), expected_UC)


def test_the_policy_without_taste_draws_by_shares(rng):
    share_C = np.array([0.5, 0.3, 0.2])
    propensity_UC = LoggingPolicy(share_C).probabilities(kuairand_world(), kuairand_world().initial_state(4, rng))
    np.testing.assert_allclose(propensity_UC, np.tile(share_C, (4, 1)))

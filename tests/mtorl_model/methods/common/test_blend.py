"""The blend of several predictions: better than each of them, the mean without labels, and calibrated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.logistic import log_odds, sigmoid
from mtorl_model.methods.common.blend import Blend, fit_blend
from mtorl_model.methods.method import Prediction


def prediction(odds_N: np.ndarray) -> Prediction:
    """One gain, and two channels with the same odds."""
    p_N = sigmoid(odds_N)
    return Prediction(np.stack([p_N, 1 - p_N], axis=1), p_N[:, None])


def log_loss(p_N: np.ndarray, gained_N: np.ndarray) -> float:
    return float(-np.mean(gained_N * np.log(p_N) + (1 - gained_N) * np.log1p(-p_N)))


@pytest.fixture(scope="module")
def world() -> tuple[list[Prediction], np.ndarray, np.ndarray]:
    """The outcome depends on two numbers, and each model knows one of them; the second model is overconfident."""
    rng = np.random.default_rng(0)
    first_N, second_N = rng.standard_normal((2, 40_000))
    gained_N = (rng.random(40_000) < sigmoid(first_N + second_N - 1)).astype(float)
    action_N = (rng.random(40_000) > sigmoid(first_N + second_N - 1)).astype(np.int64)
    return [prediction(first_N - 1), prediction(3 * second_N - 1)], gained_N[:, None], action_N


def test_the_blend_is_better_than_each_model_and_than_their_mean(world):
    predictions, gain_NG, action_N = world
    fitted = slice(0, 20_000)
    blend = fit_blend([p.take(fitted) for p in predictions], gain_NG[fitted], np.ones((20_000, 1)), action_N[fitted])
    unseen = [p.take(slice(20_000, None)) for p in predictions]
    gained_N = gain_NG[20_000:, 0]
    blended = blend.predict(unseen)
    losses = [log_loss(p.gains_XG[:, 0], gained_N) for p in (blended, *unseen, Blend.equal(1, 2).predict(unseen))]
    assert losses[0] < min(losses[1:]) - 0.005
    np.testing.assert_allclose(blend.gain_GK, [[1.0, 1 / 3]], atol=0.1)
    chosen_N = np.take_along_axis(blended.policy_XA, action_N[20_000:, None], axis=1)
    for single in unseen:
        single_N = np.take_along_axis(single.policy_XA, action_N[20_000:, None], axis=1)
        assert -np.log(chosen_N).mean() < -np.log(single_N).mean() - 0.005
    # Calibrated: the mean prediction is the rate.
    assert blended.gains_XG.mean() == pytest.approx(gained_N.mean(), abs=0.01)


def test_without_labels_it_is_the_mean_of_the_log_odds(world):
    predictions, gain_NG, action_N = world
    no_rows = slice(0, 0)
    blend = fit_blend([p.take(no_rows) for p in predictions], gain_NG[no_rows], np.ones((0, 1)), action_N[no_rows])
    np.testing.assert_allclose(blend.gain_GK, 0.5)
    expected_N = np.mean([log_odds(p.gains_XG[:, 0]) for p in predictions], axis=0)
    np.testing.assert_allclose(log_odds(blend.predict(predictions).gains_XG[:, 0]), expected_N, atol=1e-9)


def test_a_model_that_knows_nothing_gets_hardly_any_weight(world):
    predictions, gain_NG, action_N = world
    noise = prediction(np.random.default_rng(1).standard_normal(40_000))
    blend = fit_blend([predictions[0], noise], gain_NG, np.ones_like(gain_NG), action_N)
    assert blend.gain_GK[0, 1] < 0.03
    assert blend.gain_GK[0, 1] >= 0


def test_gains_that_may_still_follow_do_not_lower_the_prediction(world):
    predictions, gain_NG, action_N = world
    known_N = np.random.default_rng(2).random(40_000) < 0.5
    observed_NG = gain_NG * known_N[:, None]
    blend = fit_blend(predictions, observed_NG, np.full_like(gain_NG, 0.5), action_N)
    assert blend.predict(predictions).gains_XG.mean() == pytest.approx(gain_NG.mean(), abs=0.02)
    naive = fit_blend(predictions, observed_NG, np.ones_like(gain_NG), action_N)
    assert naive.predict(predictions).gains_XG.mean() < 0.65 * gain_NG.mean()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_probabilities_stay_probabilities(rows):
    first_N, second_N, gained_N = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    predictions = [Prediction(np.stack([p, 1 - p], axis=1), p[:, None]) for p in (first_N, second_N)]
    blend = fit_blend(predictions, gained_N[:, None], np.ones((len(rows), 1)), gained_N.astype(np.int64))
    blended = blend.predict(predictions)
    assert np.isfinite(blended.gains_XG).all()
    assert ((blended.gains_XG >= 0) & (blended.gains_XG <= 1)).all()
    np.testing.assert_allclose(blended.policy_XA.sum(axis=1), 1.0, atol=1e-12)
    restored = Blend.from_state(blend.state())
    np.testing.assert_array_equal(restored.predict(predictions).gains_XG, blended.gains_XG)

"""The fit recovers known constants, also from a log whose policy knows the users' tastes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtorl_model.budget import taste_fit
from mtorl_model.budget.click_record import NO_EXPOSURE, ClickRecord
from mtorl_model.budget.taste_filter import Tastes
from mtorl_model.budget.taste_fit import _Constants, _start, _Steps, fit_tastes, log_likelihood

HOUR_MS = 3_600_000
TRUTH = Tastes(
    bias_A=np.array([-0.6, -0.6, -0.6]),
    loading_AD=np.array([[0.9, 1.2, 0.0], [0.9, -0.6, 1.0], [0.9, -0.6, -1.0]]),
    lasting_share=0.7,
    drift_ms=60.0 * HOUR_MS,
    fatigue=0.3,
    fatigue_ms=20.0 * HOUR_MS,
)
USERS, STEPS, REPETITION = 1500, 24, 0.3
SHARE_A = np.array([0.7, 0.2, 0.1])


def simulated(greed: float, seed: int = 0) -> ClickRecord:
    """Exposures 8 hours apart, by a policy that follows the users' tastes."""
    rng = np.random.default_rng(seed)
    home, mood = rng.standard_normal((2, USERS, 3))
    rho, fading = np.exp(-8 * HOUR_MS / TRUTH.drift_ms), np.exp(-8 * HOUR_MS / TRUTH.fatigue_ms)
    fatigue, rows = np.zeros((USERS, 3)), np.arange(USERS)
    channel, click = np.zeros((2, USERS, STEPS), np.int64)
    for k in range(STEPS):
        mood = rho * mood + np.sqrt(1 - rho**2) * rng.standard_normal(mood.shape)
        fatigue *= fading
        taste = (np.sqrt(TRUTH.lasting_share) * home + np.sqrt(1 - TRUTH.lasting_share) * mood) @ TRUTH.loading_AD.T
        weight = SHARE_A * np.exp(greed * taste)
        drawn = (np.cumsum(weight, axis=1) < (rng.random(USERS) * weight.sum(axis=1))[:, None]).sum(axis=1)
        repeated = (rng.random(USERS) < REPETITION) & (k > 0)
        channel[:, k] = np.where(repeated, channel[:, k - 1], drawn)
        logit = TRUTH.bias_A[channel[:, k]] + taste[rows, channel[:, k]]
        logit -= TRUTH.fatigue * fatigue[rows, channel[:, k]]
        click[:, k] = rng.random(USERS) < 1 / (1 + np.exp(-logit))
        fatigue[rows, channel[:, k]] += 1
    at_ms = np.tile(8 * HOUR_MS * np.arange(STEPS), (USERS, 1))
    zeros = np.zeros((USERS, 3), np.int64)
    return ClickRecord(at_ms, channel, click, zeros, zeros)


def covariance(tastes: Tastes) -> np.ndarray:
    return tastes.loading_AD @ tastes.loading_AD.T


@pytest.mark.slow
@pytest.mark.parametrize("greed", [0.0, 0.35])
def test_known_constants_are_recovered(greed):
    record = simulated(greed)
    fitted = fit_tastes(record, 3)
    np.testing.assert_allclose(fitted.bias_A, TRUTH.bias_A, atol=0.2)
    np.testing.assert_allclose(covariance(fitted), covariance(TRUTH), rtol=0.15, atol=0.5)
    assert fitted.lasting_share == pytest.approx(0.7, abs=0.15)
    assert fitted.fatigue == pytest.approx(0.3, abs=0.1)
    assert 0.4 < fitted.drift_ms / TRUTH.drift_ms < 2.5
    assert 0.4 < fitted.fatigue_ms / TRUTH.fatigue_ms < 2.5


@pytest.mark.slow
def test_a_choosing_policy_does_not_inflate_the_rare_channels():
    """All channels are equal for the average user; by the log's click rates the rare ones look better."""
    record = simulated(greed=0.7)
    rate_A = [record.click_NT[record.channel_NT == a].mean() for a in range(3)]
    log_odds_A = np.log(rate_A) - np.log1p(-np.array(rate_A))
    assert log_odds_A[2] - log_odds_A[0] > 0.5
    fitted = fit_tastes(record, 3)
    assert abs(fitted.bias_A[2] - fitted.bias_A[0]) < 0.25


def test_the_probabilities_of_all_next_steps_sum_to_one():
    """So the probability of a step depends on earlier steps alone."""
    record = simulated(0.5).take(np.arange(1))
    past = replace(record, channel_NT=record.channel_NT.copy())
    past.channel_NT[:, -1] = NO_EXPOSURE
    constants = _Constants.from_vector(torch.tensor(_start(simulated(0.5), 3)), 3)
    (past_steps,) = _Steps.parts(past)
    log_past = float(log_likelihood(constants, past_steps))
    total = 0.0
    for channel in range(3):
        for click in (0, 1):
            channel_NT, click_NT = record.channel_NT.copy(), record.click_NT.copy()
            channel_NT[:, -1], click_NT[:, -1] = channel, click
            (steps,) = _Steps.parts(replace(record, channel_NT=channel_NT, click_NT=click_NT))
            total += np.exp(float(log_likelihood(constants, steps)) - log_past)
    assert total == pytest.approx(1.0, abs=1e-9)


@pytest.mark.slow
def test_the_same_record_gives_the_same_constants(monkeypatch):
    monkeypatch.setattr(taste_fit, "_ITERATIONS", 2)
    record = simulated(0.5).take(np.arange(150))
    first, second = fit_tastes(record, 3), fit_tastes(record, 3)
    np.testing.assert_array_equal(first.loading_AD, second.loading_AD)
    assert first.drift_ms == second.drift_ms
    assert fit_tastes(record, 3, most_users=100).drift_ms != first.drift_ms


@pytest.mark.slow
def test_hardly_any_exposures_give_finite_constants():
    for users in (0, 1, 3):
        fitted = fit_tastes(simulated(0.5).take(np.arange(users)), 3)
        click_NA = fitted.click(simulated(0.5), np.full(USERS, 9 * 24 * STEPS * HOUR_MS))
        assert ((click_NA > 0) & (click_NA < 1)).all()

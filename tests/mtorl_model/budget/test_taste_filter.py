"""The taste filter compared with exact posteriors, and properties of every record."""

from dataclasses import replace

import numpy as np
import pytest

from mtorl_model.budget.click_record import NO_EXPOSURE, ClickRecord
from mtorl_model.budget.taste_filter import Tastes

HOUR_MS = 3_600_000
TASTES = Tastes(
    bias_A=np.array([-1.0, -0.5, 0.3]),
    loading_AD=np.array([[1.0, 0.8], [1.0, -0.8], [0.6, 0.1]]),
    lasting_share=0.6,
    drift_ms=50.0 * HOUR_MS,
    fatigue=0.2,
    fatigue_ms=20.0 * HOUR_MS,
)


def random_record(users: int, steps: int = 12, seed: int = 0, earlier: int = 6) -> ClickRecord:
    rng = np.random.default_rng(seed)
    exposures_NA = rng.integers(0, earlier + 1, (users, 3))
    return ClickRecord(
        HOUR_MS * np.cumsum(rng.integers(1, 9, (users, steps)), axis=1),
        rng.integers(NO_EXPOSURE, 3, (users, steps)),
        rng.integers(0, 2, (users, steps)),
        exposures_NA,
        rng.binomial(exposures_NA, 0.4),
    )


def end_ms(record: ClickRecord) -> np.ndarray:
    return record.at_ms_NT[:, -1] + 5 * HOUR_MS


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_click_is_worth_more_than_none_in_its_channel():
    """Whatever the record, and whether the exposure is remembered or in the totals."""
    record = random_record(400)
    for step in (0, 5, 11):
        rows = np.flatnonzero(record.channel_NT[:, step] != NO_EXPOSURE)
        channel_N = record.channel_NT[rows, step]
        values = []
        for click in (0, 1):
            click_NT = record.click_NT.copy()
            click_NT[:, step] = click
            changed = replace(record, click_NT=click_NT)
            values.append(TASTES.click(changed, end_ms(record))[rows, channel_N])
        if step == 11:
            assert (values[1] > values[0] + 0.005).all()
        assert np.mean(values[1] > values[0]) > 0.99  # later Newton steps depend on the earlier click
    for channel in range(3):
        clicks_NA = record.earlier_clicks_NA.copy()
        rows = np.flatnonzero(clicks_NA[:, channel] < record.earlier_exposures_NA[:, channel])
        clicks_NA[rows, channel] += 1
        lower_N = TASTES.click(record, end_ms(record))[rows, channel]
        assert (
            TASTES.click(replace(record, earlier_clicks_NA=clicks_NA), end_ms(record))[rows, channel] > lower_N
        ).all()


def test_later_exposures_change_no_earlier_value():
    """The value at a moment depends on the record before it alone, not on the room for later exposures."""
    record = random_record(50)
    cut = 7
    past = replace(record, channel_NT=record.channel_NT[:, :cut], click_NT=record.click_NT[:, :cut],
                   at_ms_NT=record.at_ms_NT[:, :cut])  # fmt: skip
    moment_ms_N = record.at_ms_NT[:, cut]
    padded = np.full((50, 5), NO_EXPOSURE)
    same_past = replace(record, channel_NT=np.hstack([padded, past.channel_NT]), click_NT=np.hstack(
        [0 * padded, past.click_NT]), at_ms_NT=np.hstack([0 * padded, past.at_ms_NT]))  # fmt: skip
    np.testing.assert_array_equal(TASTES.click(past, moment_ms_N), TASTES.click(same_past, moment_ms_N))
    opposite = replace(record, click_NT=1 - record.click_NT)
    changed = TASTES.click(opposite, end_ms(record)) != TASTES.click(record, end_ms(record))
    assert changed.any(axis=1).mean() > 0.95  # but the past matters


def test_users_do_not_affect_each_other():
    record = random_record(40)
    value_NA = TASTES.click(record, end_ms(record))
    rows = np.array([3, 17, 30])
    np.testing.assert_allclose(TASTES.click(record.take(rows), end_ms(record)[rows]), value_NA[rows], rtol=1e-12)


def test_a_user_without_exposures_has_the_mean_of_all_users():
    record = random_record(2, earlier=0)
    empty = replace(record, channel_NT=np.full_like(record.channel_NT, NO_EXPOSURE))
    z = np.random.default_rng(0).standard_normal((400_000, 2))
    expected_A = sigmoid(TASTES.bias_A + z @ TASTES.loading_AD.T).mean(axis=0)
    np.testing.assert_allclose(TASTES.click(empty, end_ms(record)), np.tile(expected_A, (2, 1)), atol=0.002)
    assert TASTES.click(empty.take(slice(0, 0)), np.empty(0, np.int64)).shape == (0, 3)


def exact_click(tastes: Tastes, record: ClickRecord, at_ms: int, draws: int = 400_000) -> np.ndarray:
    """[A]: by importance sampling of the taste's whole path, for one user without earlier exposures."""
    rng = np.random.default_rng(1)
    dimensions = tastes.loading_AD.shape[1]
    home, mood = rng.standard_normal((2, draws, dimensions))
    log_weight, fatigue_A, last_ms = np.zeros(draws), np.zeros(len(tastes.bias_A)), None
    steps = zip(record.channel_NT[0], record.click_NT[0], record.at_ms_NT[0], strict=True)
    for channel, click, time_ms in [*((c, y, t) for c, y, t in steps if c != NO_EXPOSURE), (None, None, at_ms)]:
        elapsed = 0 if last_ms is None else time_ms - last_ms
        last_ms, rho = time_ms, np.exp(-elapsed / tastes.drift_ms)
        mood = rho * mood + np.sqrt(1 - rho**2) * rng.standard_normal(mood.shape)
        fatigue_A = fatigue_A * np.exp(-elapsed / tastes.fatigue_ms)
        taste = np.sqrt(tastes.lasting_share) * home + np.sqrt(1 - tastes.lasting_share) * mood
        click_DA = sigmoid(tastes.bias_A + taste @ tastes.loading_AD.T - tastes.fatigue * fatigue_A)
        if channel is None:
            weight = np.exp(log_weight - log_weight.max())
            return weight @ click_DA / weight.sum()
        log_weight += np.log(click_DA[:, channel] if click else 1 - click_DA[:, channel])
        fatigue_A[channel] += 1
    raise AssertionError


@pytest.mark.slow(0.5)
@pytest.mark.parametrize("user", range(4))
def test_values_are_near_the_exact_posterior_means(user):
    record = random_record(4, steps=10, seed=4, earlier=0).take(np.array([user]))
    expected_A = exact_click(TASTES, record, int(end_ms(record)[0]))
    value_A = TASTES.click(record, end_ms(record))[0]
    prior_A = TASTES.click(replace(record, channel_NT=np.full((1, 10), NO_EXPOSURE)), end_ms(record))[0]
    np.testing.assert_allclose(value_A, expected_A, atol=0.02)
    assert np.abs(expected_A - prior_A).max() > 0.05


def test_totals_are_nearly_as_good_as_steps_for_a_lasting_taste():
    lasting = replace(TASTES, lasting_share=1.0, fatigue=0.0)
    record = random_record(200, earlier=0)
    exposures_NA, clicks_NA = np.zeros((2, 200, 3), np.int64)
    row_N, step_N = np.nonzero(record.channel_NT != NO_EXPOSURE)
    np.add.at(exposures_NA, (row_N, record.channel_NT[row_N, step_N]), 1)
    np.add.at(clicks_NA, (row_N, record.channel_NT[row_N, step_N]), record.click_NT[row_N, step_N])
    totals = ClickRecord(
        record.at_ms_NT, np.full_like(record.channel_NT, NO_EXPOSURE), record.click_NT, exposures_NA, clicks_NA
    )
    difference = lasting.click(totals, end_ms(record)) - lasting.click(record, end_ms(record))
    assert np.abs(difference).mean() < 0.01
    assert np.abs(difference).max() < 0.08

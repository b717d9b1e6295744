"""The value of each channel, in worlds whose truth is known: nothing personal, and a strong personal effect."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from features.logistic import sigmoid
from mtorl_model.data.encoding import InputNames
from mtorl_model.methods.common.channel_value import (
    ChannelValues,
    ValueConfig,
    channel_columns,
    inverse_propensities,
    with_channel,
)
from mtorl_model.methods.common.label_rows import LabelRows

CHANNELS = ("a", "b", "c")
NAMES = InputNames(
    categorical=("hour",),
    numeric=(
        "age", "rate_click", *(f"log_seen_{c}" for c in CHANNELS), *(f"share_{c}" for c in CHANNELS),
        *(f"rate_click_{c}" for c in CHANNELS),
    ),
    reward=("click",),
)  # fmt: skip
EFFECT_A = np.array([0.4, 0.2, -0.6])
RECORDS = channel_columns(NAMES, CHANNELS)
CONFIG = ValueConfig(value_iterations=40, value_folds=3)
RATES = slice(8, 11)  # the columns rate_click_*


def world(strength: float, labels: int = 8_000, seed: int = 0, *, random: bool = True) -> tuple[LabelRows, np.ndarray]:
    """Labels, and the true click probabilities [N, A]: a user's record in a channel is the taste for it, with noise."""
    rng = np.random.default_rng(seed)
    users = labels // 10
    taste_UA = rng.standard_normal((users, 3))
    user_N = np.repeat(np.arange(users), 10)
    features_NF = rng.standard_normal((labels, 2 + 9 + 3 + 1 + 1)).astype(np.float32)
    features_NF[:, RATES] = taste_UA[user_N] + 0.3 * rng.standard_normal((labels, 3))
    truth_NA = sigmoid(-1 + 0.5 * features_NF[:, [0]] + EFFECT_A + strength * taste_UA[user_N])
    weight_NA = np.ones((labels, 3)) if random else np.exp(1.5 * taste_UA[user_N])
    policy_NA = weight_NA / weight_NA.sum(axis=1, keepdims=True)
    action_N = (np.cumsum(policy_NA, axis=1) < rng.random((labels, 1))).sum(axis=1)
    gain_N = rng.random(labels) < truth_NA[np.arange(labels), action_N]
    propensity_N = np.full(labels, 1 / 3 if random else 0.0, np.float32)
    rows = LabelRows(
        features_NF, action_N, gain_N[:, None].astype(np.float32), np.ones((labels, 1), np.float32), propensity_N,
        user_N, None,
    )  # fmt: skip
    return rows, truth_NA


@cache
def fitted(strength: float) -> ChannelValues:
    return ChannelValues.fit(world(strength)[0], RECORDS, CONFIG)


def recommended_value(values: ChannelValues, strength: float) -> tuple[float, float, float]:
    """True value of the recommended channels for other users, of the best constant, and of the best channel of each."""
    rows, truth_NA = world(strength, seed=1)
    predicted_NAG = values.values(rows.feature_NF, np.full((len(rows.action_N), 1), 0.3))
    channel_N = predicted_NAG[..., 0].argmax(axis=1)
    chosen_N = np.take_along_axis(truth_NA, channel_N[:, None], axis=1)
    return float(chosen_N.mean()), float(truth_NA.mean(axis=0).max()), float(truth_NA.max(axis=1).mean())


@pytest.mark.slow(0.5)
def test_without_a_personal_effect_the_best_constant_remains():
    values = fitted(0.0)
    assert values.is_effect
    assert values.best_channel != 2
    published, constant, _ = recommended_value(values, 0.0)
    assert published >= 0.995 * constant
    np.testing.assert_allclose(values.gains[0].effect_A - values.gains[0].effect_A.mean(), EFFECT_A, atol=0.15)


@pytest.mark.slow(0.5)
def test_a_strong_personal_effect_is_used_most_of_the_way_to_the_oracle():
    published, constant, oracle = recommended_value(fitted(1.5), 1.5)
    assert published > constant + 0.7 * (oracle - constant)
    assert fitted(1.5).gains[0].statistic > 5
    assert fitted(0.0).gains[0].statistic < 3


@pytest.mark.slow(0.5)
def test_a_channel_that_only_likers_see_is_not_overvalued_if_propensities_are_known():
    rows, _ = world(1.5, random=False)
    direct = ChannelValues.fit(rows, RECORDS, CONFIG)
    assert not direct.is_effect
    assert direct.labels == len(rows.action_N)


@pytest.mark.slow
def test_only_labels_with_a_propensity_are_used_if_there_are_enough():
    rows, _ = world(0.0)
    drawn_N = np.arange(len(rows.action_N)) % 10 < 5
    mixed = rows._replace(propensity_N=np.where(drawn_N, rows.propensity_N, 0.0).astype(np.float32))
    spoiled = mixed._replace(gain_NG=np.where(drawn_N[:, None], mixed.gain_NG, 1.0).astype(np.float32))
    values = [ChannelValues.fit(labels, RECORDS, CONFIG) for labels in (mixed, spoiled)]
    assert [v.labels for v in values] == [int(drawn_N.sum())] * 2
    np.testing.assert_array_equal(values[0].gains[0].effect_A, values[1].gains[0].effect_A)


@pytest.mark.slow(1)
def test_values_keep_the_mean_of_the_predicted_gain_and_are_restored_from_arrays():
    values = fitted(1.5)
    rows, _ = world(1.5, labels=500, seed=2)
    gains_NG = np.random.default_rng(0).uniform(0.05, 0.9, (500, 1))
    predicted_NAG = values.values(rows.feature_NF, gains_NG)
    odds_NA = np.log(predicted_NAG[..., 0] / (1 - predicted_NAG[..., 0]))
    expected_N = np.log(gains_NG[:, 0] / (1 - gains_NG[:, 0]))
    centred_N = odds_NA @ values.share_A - expected_N
    assert np.abs(centred_N).max() < 0.2
    restored = ChannelValues.from_state(values.state(), gains=1)
    np.testing.assert_array_equal(restored.values(rows.feature_NF, gains_NG), predicted_NAG)


def test_newer_labels_fit_models_and_effects_again_but_not_the_shrinkage():
    values, (rows, _) = fitted(1.5), world(1.5, labels=4000, seed=3)
    newer = values.refitted(rows, CONFIG)
    assert newer.labels == values.labels  # of the calibration
    unchanged = values.refitted(rows.take(slice(3000)), CONFIG)
    assert unchanged is values
    np.testing.assert_array_equal(newer.gains[0].shrinkage_K, values.gains[0].shrinkage_K)
    np.testing.assert_allclose(newer.gains[0].effect_A, values.gains[0].effect_A, atol=0.3)  # the same world
    assert (newer.gains[0].effect_A != values.gains[0].effect_A).all()
    other_rows, truth_NA = world(1.5, labels=2000, seed=4)
    for tested in (newer, values):
        predicted_NAG = tested.values(other_rows.feature_NF, np.full((2000, 1), 0.3))
        channel_N = predicted_NAG[..., 0].argmax(axis=1)
        chosen = np.take_along_axis(truth_NA, channel_N[:, None], axis=1).mean()
        constant, oracle = truth_NA.mean(axis=0).max(), truth_NA.max(axis=1).mean()
        assert chosen > constant + 0.6 * (oracle - constant)
    without_propensities = values.refitted(rows._replace(propensity_N=np.zeros_like(rows.propensity_N)), CONFIG)
    assert without_propensities is values


def test_a_model_that_no_value_depends_on_is_not_fitted_again():
    values, (rows, _) = fitted(1.5), world(1.5, labels=4000, seed=3)
    assert values.gains[0].models is not None
    for used in (0, 1):
        shrinkage_K = np.where(np.arange(2) == used, 0.5, 0.0)
        value = replace(values.gains[0], shrinkage_K=shrinkage_K)
        newer = replace(values, gains=(value,)).refitted(rows, CONFIG).gains[0]
        assert newer.models is not None
        for model in (0, 1):
            assert (newer.models[model] is value.models[model]) == (model != used)
            assert (newer.centre_KA[model] == value.centre_KA[model]).all() == (model != used)


@pytest.mark.slow(1)
@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_a_channel_that_has_become_the_best_is_recommended_after_a_day(strength):
    """With and without personal values: the effects follow the newest labels."""
    values, (rows, _) = fitted(strength), world(strength, labels=4000, seed=5)
    assert values.best_channel != 2
    is_changed_N = np.random.default_rng(0).random(len(rows.action_N)) < 0.5
    gain_N = np.where(is_changed_N, rows.action_N == 2, rows.gain_NG[:, 0] > 0)
    newer = values.refitted(rows._replace(gain_NG=gain_N[:, None].astype(np.float32)), CONFIG)
    assert newer.best_channel == 2
    assert newer.gains[0].effect_A[2] > newer.gains[0].effect_A[:2].max() + 0.5


def test_equal_outcomes_give_no_effect():
    rows, _ = world(0.0, labels=1000)
    values = ChannelValues.fit(rows._replace(gain_NG=np.zeros_like(rows.gain_NG)), RECORDS, CONFIG)
    gains_NG = np.full((1000, 1), 0.2)
    np.testing.assert_allclose(values.values(rows.feature_NF, gains_NG), 0.2)


def test_the_columns_of_a_channel_are_its_record_and_its_previous_exposure():
    record_AK = channel_columns(NAMES, CHANNELS)
    assert record_AK.tolist() == [[2, 5, 8, 11], [3, 6, 9, 12], [4, 7, 10, 13]]
    features_NF = np.arange(32, dtype=np.float32).reshape(2, 16)
    inputs = with_channel(features_NF, np.array([2, 0]), record_AK)
    assert inputs[0, 16:].tolist() == [0, 0, 1, *features_NF[0, [4, 7, 10, 13]]]
    assert inputs[1, 16:].tolist() == [1, 0, 0, *features_NF[1, [2, 5, 8, 11]]]


def test_propensities_that_depend_on_the_context_are_used_as_they_are():
    rows, _ = world(0.0, labels=1000)
    contextual = rows._replace(propensity_N=np.where(np.arange(1000) % 2, 0.5, 0.1).astype(np.float32))
    weight_N = inverse_propensities(contextual, 3)
    assert weight_N[0] / weight_N[1] == pytest.approx(5.0)
    assert weight_N.mean() == pytest.approx(1.0)
    constant_N = inverse_propensities(rows, 3)
    shares_A = np.bincount(rows.action_N, minlength=3) / 1000
    np.testing.assert_allclose(constant_N * shares_A[rows.action_N], (constant_N * shares_A[rows.action_N])[0])

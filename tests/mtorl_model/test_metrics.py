"""Metrics against values computed by hand, by scikit-learn, and against chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from mtorl_model.metrics import channel_metrics, is_predictable, reward_metrics

RNG = np.random.default_rng(3)


def certain(guess_N, actions):
    """Policies that name one channel with certainty."""
    return np.eye(actions)[np.asarray(guess_N)]


def test_channel_metrics_by_hand():
    shown = np.array([0, 0, 0, 1, 1, 2])
    guess = np.array([0, 0, 1, 1, 0, 0])
    got = channel_metrics(shown, certain(guess, 4), np.array([-1, 0, 0, 1, 1, 2]), np.arange(6))
    # left: 2 of 4 guesses right, 2 of 3 found; mid: 1 of 2, 1 of 2; right: never guessed; the fourth never shown
    assert got["precision_macro"] == pytest.approx((1 / 2 + 1 / 2) / 4)
    assert got["recall_macro"] == pytest.approx((2 / 3 + 1 / 2) / 4)
    assert got["f1_macro"] == pytest.approx((4 / 7 + 1 / 2) / 4)
    assert got["accuracy"] == pytest.approx(3 / 6)
    # The first has no previous channel: that is a miss, and no fifth class in the mean.
    assert got["f1_macro_copy_previous"] == pytest.approx((2 * 2 / 5 + 1 + 1) / 4)


def test_the_most_probable_channel_is_the_guess():
    shown, policy = RNG.integers(0, 3, 500), RNG.dirichlet(np.ones(3), 500)
    got = channel_metrics(shown, policy, shown, np.arange(500))
    assert got["f1_macro"] == pytest.approx(f1_score(shown, policy.argmax(1), average="macro"))
    assert got["f1_macro_copy_previous"] == 1.0


def test_a_channel_that_follows_a_rule_is_predictable():
    shown = RNG.integers(0, 3, 300)
    hint = 0.6 * certain(shown, 3) + 0.4 / 3
    assert is_predictable(shown, hint, np.arange(300) // 10)


@pytest.mark.parametrize("seed", range(5))
def test_random_channels_are_not_predictable(seed):
    rng = np.random.default_rng(seed)
    shown, user = rng.integers(0, 3, 3000), np.arange(3000) // 10
    assert not is_predictable(shown, rng.dirichlet(np.full(3, 50.0), 3000), user)
    assert not is_predictable(shown, np.full((3000, 3), 1 / 3), user)


def test_the_labels_of_one_user_are_not_independent():
    # Three of four users are guessed well and one badly: 400 independent labels would be evidence, 4 users are none.
    right = np.repeat([True, True, True, False], 100)
    shown = np.tile([0, 1], 200)
    policy = np.where(right[:, None] == (np.arange(2) == shown[:, None]), 0.65, 0.35)
    assert is_predictable(shown, policy, np.arange(400))
    assert not is_predictable(shown, policy, np.repeat(np.arange(4), 100))
    assert not is_predictable(shown, policy, np.zeros(400, dtype=np.int64))


def test_predictable_is_a_difference_of_more_than_two_clustered_standard_errors():
    shown = RNG.integers(0, 2, 60)
    user = np.arange(60) // 6
    policy = RNG.dirichlet([4, 4], 60)
    share = np.bincount(shown) / 60
    gained = np.log(policy[np.arange(60), shown]) - np.log(share[shown])
    sums = np.array([(gained[user == u] - gained.mean()).sum() for u in range(10)])
    error = np.sqrt(10 / 9 * (sums**2).sum()) / 60

    for shift in (-1e-6, 1e-6):  # scaling a policy shifts every log loss alike
        scaled = policy * np.exp(2 * error - gained.mean() + shift)
        assert is_predictable(shown, scaled, user) == (shift > 0)


def test_reward_metrics_against_scikit_learn():
    predicted = RNG.random(800)
    gain = (RNG.random(800) < predicted).astype(float)
    got = reward_metrics(gain, predicted)
    top = np.argsort(-predicted)[:300]
    assert got["auc"] == pytest.approx(roc_auc_score(gain, predicted))
    assert got["logloss"] == pytest.approx(log_loss(gain, predicted))
    assert got["base_logloss"] == pytest.approx(log_loss(gain, np.full(800, gain.mean())))
    assert got["rate_top_37.5pct"] == pytest.approx(gain[top].mean())
    assert got["rate"] == gain.mean()


def test_shuffled_labels_leave_nothing_to_rank():
    predicted = RNG.random(20_000)
    gain = RNG.permutation((RNG.random(20_000) < predicted).astype(float))
    got = reward_metrics(gain, predicted)
    assert got["auc"] == pytest.approx(0.5, abs=0.02)
    assert got["rate_top_37.5pct"] == pytest.approx(got["rate"], abs=0.02)
    assert got["logloss"] > got["base_logloss"]


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_one_class_has_no_auc(outcome):
    got = reward_metrics(np.full(9, outcome), np.linspace(0, 1, 9))
    assert got["auc"] is None
    assert got["rate"] == outcome
    assert got["base_logloss"] == pytest.approx(0.0, abs=1e-6)
    assert np.isfinite(got["logloss"])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.0, 1.0])), min_size=1), st.randoms())
def test_the_order_of_the_labels_does_not_count(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    one, other = (
        reward_metrics(*(np.array(x) for x in reversed(list(zip(*p, strict=True))))) for p in (pairs, shuffled)
    )
    assert one == pytest.approx(other, nan_ok=False)
    assert 0 <= one["rate_top_37.5pct"] <= 1


def test_ties_at_the_threshold_count_with_their_mean():
    gain = np.array([1, 1, 0, 0, 0, 0, 0, 0.0])
    predicted = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1])
    assert reward_metrics(gain, predicted)["rate_top_37.5pct"] == pytest.approx((1 + 2 * 1 / 4) / 3)

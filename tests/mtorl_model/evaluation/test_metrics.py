"""Metrics compared with values computed by hand and by scikit-learn, and on random labels; intervals over users."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support, roc_auc_score

from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate, interval
from mtorl_model.evaluation.metrics import as_json, channel_figures, is_predictable, reward_metrics, session_logloss

RNG = np.random.default_rng(3)


def bootstrap(labels: int, per_user: int = 1, replicates: int = 100) -> UserBootstrap:
    return UserBootstrap(np.arange(labels) // per_user, replicates=replicates)


def channel(actual, guess, actions: int) -> dict[str, float]:
    figures = channel_figures(np.asarray(actual), np.asarray(guess), actions, bootstrap(len(actual)))
    return {name: figure[0] for name, figure in figures.items()}


def reward(gain, predicted) -> dict[str, float]:
    return {name: f[0] for name, f in reward_metrics(gain, predicted, bootstrap(len(gain))).figures.items()}


def test_channel_metrics_by_hand():
    actual, guess = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0]
    figures = channel(actual, guess, 4)
    # Channel 0: precision 2 / 4, recall 2 / 3; channel 1: 1 / 2 and 1 / 2; channel 2 is never guessed. Channel 3 does
    # not occur and does not count.
    assert figures["precision_macro"] == pytest.approx((1 / 2 + 1 / 2) / 3)
    assert figures["recall_macro"] == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert figures["f1_macro"] == pytest.approx((4 / 7 + 1 / 2) / 3)
    assert channel(actual, [0, 0, 0, 1, 1, 3], 4)["f1_macro"] == pytest.approx(
        (1 + 1) / 4
    )  # guessed, but does not occur
    assert figures["accuracy"] == pytest.approx(3 / 6)
    # A missing guess is an error, but not another class in the mean.
    assert channel(actual, [-1, 0, 0, 1, 1, 2], 4)["f1_macro"] == pytest.approx((2 * 2 / 5 + 1 + 1) / 3)


def test_channel_metrics_and_their_replicates_against_scikit_learn():
    actual, guess, user = RNG.integers(0, 3, 400), RNG.integers(0, 3, 400), np.arange(400) // 8
    users = UserBootstrap(user, replicates=3)
    figures = channel_figures(actual, guess, 3, users)
    for replicate in range(4):
        drawn = np.ones(50, int) if replicate == 0 else users._drawn_RU[replicate - 1]
        weight = drawn[user]
        rows = np.repeat(np.arange(400), weight)
        p, r, f1, _ = precision_recall_fscore_support(actual[rows], guess[rows], average="macro")
        values = [figures[n][replicate] for n in ("precision_macro", "recall_macro", "f1_macro")]
        assert values == pytest.approx([p, r, f1])
        assert figures["accuracy"][replicate] == pytest.approx((actual == guess)[rows].mean())


def test_a_channel_that_follows_a_rule_is_predictable():
    actual = RNG.integers(0, 3, 300)
    hint = 0.6 * np.eye(3)[actual] + 0.4 / 3
    assert is_predictable(actual, hint, np.arange(300) // 10)


@pytest.mark.parametrize("seed", range(5))
def test_random_channels_are_not_predictable(seed):
    rng = np.random.default_rng(seed)
    actual, user = rng.integers(0, 3, 3000), np.arange(3000) // 10
    assert not is_predictable(actual, rng.dirichlet(np.full(3, 50.0), 3000), user)
    assert not is_predictable(actual, np.full((3000, 3), 1 / 3), user)


def test_the_labels_of_one_user_are_not_independent():
    # Predictions are good for three users and bad for the fourth. 400 independent labels would be evidence; 4 users
    # are not.
    is_right = np.repeat([True, True, True, False], 100)
    actual = np.tile([0, 1], 200)
    policy = np.where(is_right[:, None] == (np.arange(2) == actual[:, None]), 0.65, 0.35)
    assert is_predictable(actual, policy, np.arange(400))
    assert not is_predictable(actual, policy, np.repeat(np.arange(4), 100))
    assert not is_predictable(actual, policy, np.zeros(400, dtype=np.int64))


def test_predictable_is_a_difference_of_more_than_two_clustered_standard_errors():
    actual = RNG.integers(0, 2, 60)
    user = np.arange(60) // 6
    policy = RNG.dirichlet([4, 4], 60)
    share = np.bincount(actual) / 60
    gained = np.log(policy[np.arange(60), actual]) - np.log(share[actual])
    sums = np.array([(gained[user == u] - gained.mean()).sum() for u in range(10)])
    error = np.sqrt(10 / 9 * (sums**2).sum()) / 60

    for shift in (-1e-6, 1e-6):  # scaling a policy shifts all log losses equally
        scaled = policy * np.exp(2 * error - gained.mean() + shift)
        assert is_predictable(actual, scaled, user) == (shift > 0)


def test_reward_metrics_against_scikit_learn():
    predicted = RNG.random(800)
    gain = (RNG.random(800) < predicted).astype(float)
    figures = reward(gain, predicted)
    order = np.argsort(-predicted)
    assert figures["auc"] == pytest.approx(roc_auc_score(gain, predicted))
    assert figures["logloss"] == pytest.approx(log_loss(gain, predicted))
    assert figures["base_logloss"] == pytest.approx(log_loss(gain, np.full(800, gain.mean())))
    assert figures["rate"] == gain.mean()
    for name, size in (("10", 80), ("20", 160), ("37.5", 300), ("50", 400)):
        assert figures[f"rate_top_{name}pct"] == pytest.approx(gain[order[:size]].mean())


def test_equal_scores_count_half_in_the_auc_and_one_class_has_none():
    predicted = RNG.integers(1, 5, 3_000) / 5  # more labels than bins, and few scores
    gain = (RNG.random(3_000) < predicted).astype(float)
    assert reward(gain, predicted)["auc"] == pytest.approx(roc_auc_score(gain, predicted), abs=1e-12)
    assert np.isnan(reward(np.ones(30), predicted[:30])["auc"])


@pytest.mark.parametrize("labels", [300, 20_000])  # fewer labels than bins of the score, and more
def test_the_replicates_of_a_reward_metric_against_scikit_learn(labels):
    predicted = RNG.random(labels)
    gain, user = (RNG.random(labels) < predicted).astype(float), RNG.integers(0, 60, labels)
    users = UserBootstrap(user, replicates=2)
    figures = reward_metrics(gain, predicted, users).figures
    for replicate in (1, 2):
        weight = users._drawn_RU[replicate - 1][np.unique(user, return_inverse=True)[1]].astype(float)
        assert figures["auc"][replicate] == pytest.approx(
            roc_auc_score(gain, predicted, sample_weight=weight), abs=1e-3
        )
        assert figures["logloss"][replicate] == pytest.approx(log_loss(gain, predicted, sample_weight=weight))
        rows = np.repeat(np.arange(labels), weight.astype(int))
        top = rows[np.argsort(-predicted[rows], kind="stable")][: round(0.5 * len(rows))]
        assert figures["rate_top_50pct"][replicate] == pytest.approx(gain[top].mean(), abs=5e-4 + 1 / len(top))


def test_calibration_by_hand():
    # Two groups of equal size: one predicted .2 and clicking .2, one predicted .4 and clicking .9.
    predicted = np.repeat([0.2, 0.4], 100)
    gain = np.concatenate([np.arange(100) < 20, np.arange(100) < 90]).astype(float)
    metrics = reward_metrics(gain, predicted, bootstrap(200))
    assert metrics.figures["ece"][0] == pytest.approx(0.5 * 0 + 0.5 * 0.5)
    assert [(p["predicted"], p["observed"], p["labels"]) for p in metrics.calibration] == [
        (pytest.approx(0.2), pytest.approx(0.2), 100),
        (pytest.approx(0.4), pytest.approx(0.9), 100),
    ]


def test_with_shuffled_labels_no_prediction_is_better_than_chance():
    predicted, noise = RNG.random(20_000), RNG.random(20_000)
    gain = RNG.permutation((RNG.random(20_000) < predicted).astype(float))
    users = bootstrap(20_000, per_user=10)
    figures, noise_figures = (reward_metrics(gain, p, users).figures for p in (predicted, noise))
    assert figures["auc"][0] == pytest.approx(0.5, abs=0.02)
    assert figures["rate_top_37.5pct"][0] == pytest.approx(figures["rate"][0], abs=0.02)
    assert figures["logloss"][0] > figures["base_logloss"][0]
    for name in ("auc", "rate_top_10pct", "rate_top_50pct"):
        low, high = interval(figures[name] - noise_figures[name])
        assert low < 0 < high


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_one_class_has_no_auc(outcome):
    figures = reward_metrics(np.full(9, outcome), np.linspace(0, 1, 9), bootstrap(9)).figures
    figures = as_json(figures)
    assert figures["auc"] is None
    assert figures["intervals"]["auc"] is None
    assert figures["rate"] == outcome
    assert figures["base_logloss"] == pytest.approx(0.0, abs=1e-5)
    assert np.isfinite(figures["logloss"])


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.0, 1.0])), min_size=1), st.randoms())
def test_the_order_of_the_labels_does_not_matter(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    figures, shuffled_figures = (
        reward(*(np.array(x) for x in reversed(list(zip(*p, strict=True))))) for p in (pairs, shuffled)
    )
    assert figures == pytest.approx(shuffled_figures, nan_ok=True)
    assert 0 <= figures["rate_top_37.5pct"] <= 1


def test_ties_at_the_threshold_count_with_their_mean():
    gain = np.array([1, 1, 0, 0, 0, 0, 0, 0.0])
    predicted = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1])
    assert reward(gain, predicted)["rate_top_37.5pct"] == pytest.approx((1 + 2 * 1 / 4) / 3)


def test_a_figure_shows_its_value_and_interval():
    figure = np.concatenate([[0.5], np.linspace(0, 1, 1001)])
    assert estimate(figure) == {"value": 0.5, "low": pytest.approx(0.025), "high": pytest.approx(0.975)}
    assert as_json({"x": figure, "y": figure}, ("x",)) == {
        "x": 0.5, "intervals": {"x": (pytest.approx(0.025), pytest.approx(0.975))},
    }  # fmt: skip


def test_the_interval_of_a_mean_is_that_of_its_users():
    # 400 users with 25 equal labels each: the interval is that of 400 labels, not of 10,000.
    user_value = RNG.normal(size=400)
    users = UserBootstrap(np.repeat(np.arange(400), 25))
    total, count = users.sums(np.stack([np.repeat(user_value, 25), np.ones(10_000)], axis=1)).T
    low, high = interval(total / count)
    assert (high - low) / (2 * 1.96) == pytest.approx(user_value.std() / np.sqrt(400), rel=0.1)


def test_too_few_users_have_no_interval():
    users = UserBootstrap(np.arange(500) % 19)
    metrics = reward_metrics(RNG.integers(0, 2, 500).astype(float), RNG.random(500), users)
    assert set(as_json(metrics.figures)["intervals"].values()) == {None}
    assert metrics.figures["auc"][0] > 0


def test_one_seed_draws_the_same_users():
    user = RNG.integers(0, 50, 300)
    draws = [UserBootstrap(user, seed=s).counts(np.zeros(300, int), 1) for s in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_f1_of_the_most_probable_channel():
    actual, policy = RNG.integers(0, 3, 500), RNG.dirichlet(np.ones(3), 500)
    assert channel(actual, policy.argmax(1), 3)["f1_macro"] == pytest.approx(
        f1_score(actual, policy.argmax(1), average="macro")
    )


def test_session_logloss_of_two_sessions_by_hand():
    """Sessions of one and three exposures count equally; item (h) of RMTL's list of tests."""
    gain, predicted, session = np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.8, 0.5, 0.1, 0.6]), np.array([4, 7, 7, 7])
    figure = session_logloss(gain, predicted, session, bootstrap(4, per_user=2))
    long_session = -(np.log(0.5) + np.log(0.9) + np.log(0.6)) / 3
    assert figure[0] == pytest.approx((-np.log(0.8) + long_session) / 2)
    assert figure[0] != pytest.approx(-(np.log(0.8) + np.log(0.5) + np.log(0.9) + np.log(0.6)) / 4)


def test_session_logloss_draws_whole_users():
    session = np.repeat(np.arange(40), 3)
    figure = session_logloss(RNG.integers(0, 2, 120).astype(float), RNG.random(120), session, bootstrap(120, 6))
    assert len(figure) == 101
    low, high = interval(figure)
    assert low < figure[0] < high

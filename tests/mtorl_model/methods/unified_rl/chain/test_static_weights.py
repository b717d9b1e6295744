"""Pairs within users equal MTF-GAUC; static weights and predictions of other users' models."""

import numpy as np
import pytest
from candidate_rows import store_of

from mtorl_model.evaluation.fusion_metrics import grouped_auc
from mtorl_model.methods.common.label_trees import TreesConfig
from mtorl_model.methods.unified_rl.chain.objective_trees import ObjectiveTrees, half_of
from mtorl_model.methods.unified_rl.chain.static_weights import fit_static_action
from mtorl_model.methods.unified_rl.chain.user_pairs import UserPairs
from mtorl_model.methods.unified_rl.fusion import log_scores, powers_of


def made_users(seed: int = 0, rows: int = 600):
    rng = np.random.default_rng(seed)
    user_N = np.sort(rng.integers(0, 60, rows))
    return user_N, rng.random(rows) < 0.4, 1.0 + rng.integers(0, 3, rows), rng


def test_the_share_of_ordered_pairs_is_mtf_gauc():
    user_N, label_N, weight_N, rng = made_users()
    score_N = rng.integers(0, 5, len(user_N)).astype(float)
    expected = grouped_auc(user_N, label_N, score_N, weight_N).figure_R[0]
    assert UserPairs(user_N, label_N, weight_N).ordered_share(score_N) == pytest.approx(expected, abs=1e-12)


def test_without_pairs_nothing_is_better_than_chance():
    assert UserPairs(np.arange(3), np.ones(3, bool), np.ones(3)).ordered_share(np.arange(3.0)) == 0.5


def test_static_weights_rely_on_the_objective_that_orders_the_label():
    user_N, label_N, weight_N, rng = made_users()
    predictions_NI = rng.uniform(0.05, 0.6, (len(user_N), 2))
    predictions_NI[:, 0] += 0.2 * label_N
    pairs = UserPairs(user_N, label_N, weight_N)
    action_D = fit_static_action(pairs, predictions_NI, seed=0)
    assert powers_of(action_D)[0] > 4 * powers_of(action_D)[1]
    equal = pairs.ordered_share(log_scores(predictions_NI, np.zeros(4)))
    assert pairs.ordered_share(log_scores(predictions_NI, action_D)) > equal + 0.02


def test_a_training_user_has_no_prediction_of_a_model_that_saw_the_user():
    """Objectives are a coin for each user, which only a model that saw the user can know."""
    rng = np.random.default_rng(0)
    users, exposures = 300, 8
    user_N = np.repeat(np.arange(users), exposures)
    coin_N = np.repeat(rng.random(users) < 0.5, exposures)
    store = store_of(
        user_N, np.zeros((len(user_N), 1), int), user_N[:, None].astype(float), np.zeros((len(user_N), 2)), (2,),
        coin_N[:, None],
    )  # fmt: skip
    config = TreesConfig(gain_iterations=60, min_samples_leaf=1, max_leaf_nodes=200, l2_regularization=0.0)
    trees, predicted_NI = ObjectiveTrees.fit(store, config)
    assert abs(np.corrcoef(predicted_NI[:, 0], coin_N)[0, 1]) < 0.2
    assert np.corrcoef(trees.predict(store)[:, 0], coin_N)[0, 1] > 0.6  # half of its models saw the user
    halves = half_of(user_N).reshape(users, exposures)
    assert (halves == halves[:, :1]).all()
    assert 0.4 < halves.mean() < 0.6

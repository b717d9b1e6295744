"""Pairs within users equal MTF-GAUC; and static weights."""

import numpy as np
import pytest

from mtorl_model.evaluation.fusion_metrics import grouped_auc
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

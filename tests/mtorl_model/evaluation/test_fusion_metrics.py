"""MTF-GAUC against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mtorl_model.evaluation.fusion_metrics import grouped_auc, ranking_losses


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_it_is_the_weighted_auc_of_each_user(seed):
    rng = np.random.default_rng(seed)
    user_N = rng.integers(0, 6, 60)
    label_N, score_N = rng.integers(0, 2, 60), rng.integers(0, 5, 60) / 4.0
    weight_N = rng.uniform(1.0, 3.0, 60)
    label_N[user_N == 0] = 1  # a user whose labels are all equal
    parts, weights, left_out = [], [], 0
    for user in np.unique(user_N):
        rows = user_N == user
        if len(np.unique(label_N[rows])) == 1:
            left_out += 1
            continue
        parts.append(roc_auc_score(label_N[rows], score_N[rows], sample_weight=weight_N[rows]))
        weights.append(weight_N[rows].sum())
    result = grouped_auc(user_N, label_N, score_N, weight_N)
    assert (result.users, result.left_out) == (len(parts), left_out)
    if parts:
        assert result.figure_R[0] == pytest.approx(np.average(parts, weights=weights))


def test_users_in_an_interval_are_drawn_as_a_whole():
    rng = np.random.default_rng(0)
    user_N = np.repeat(np.arange(50), 4)
    label_N = np.tile([0, 1, 0, 1], 50)
    score_N = label_N + rng.normal(0, 1, 200)
    figure_R = grouped_auc(user_N, label_N, score_N, np.ones(200)).figure_R
    assert len(figure_R) > 200
    assert 0.5 < np.quantile(figure_R[1:], 0.025) < figure_R[0] < np.quantile(figure_R[1:], 0.975) < 1.0


@pytest.mark.slow(0.5)
@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_the_mean_ranking_loss_is_what_the_metric_lacks_to_1(seed):
    rng = np.random.default_rng(seed)
    user_N = rng.integers(0, 6, 60)
    objectives_NI, score_N = rng.integers(0, 2, (60, 2)), rng.integers(0, 5, 60) / 4.0
    objectives_NI[user_N == 0, 0] = 1  # a user whose labels are all equal
    weight_I = np.array([1.0, 0.5])
    loss_N, is_counted_N = ranking_losses(user_N, objectives_NI, score_N, weight_I)
    expected = grouped_auc(user_N, objectives_NI[:, 0], score_N, 1.0 + objectives_NI @ weight_I)
    assert not is_counted_N[user_N == 0].any()
    assert not is_counted_N[objectives_NI[:, 0] == 0].any()
    assert len(np.unique(user_N[is_counted_N])) == expected.users
    if expected.users:
        assert loss_N[is_counted_N].mean() == pytest.approx(1.0 - expected.figure_R[0])

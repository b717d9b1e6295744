"""The reward of a ranking of rows lists against a plain count, and the transitions made of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.chain.ranking import fused_scores, usual_predictions
from mtorl_model.methods.unified_rl.chain.replay import explored, ranked_reward, shown_lists
from mtorl_model.methods.unified_rl.chain.requests import Requests
from mtorl_model.methods.unified_rl.fusion import log_scores
from mtorl_model.methods.unified_rl.progressive import equal_weights

OBJECTIVES, ACTIONS = 2, 4


def made_lists(seed: int, requests: int = 40, places: int = 4):
    rng = np.random.default_rng(seed)
    rows = requests * places
    list_RL = np.arange(rows).reshape(requests, places)
    list_RL = np.where(rng.random(list_RL.shape) < 0.3, -1, list_RL)
    predictions_NI = rng.uniform(0.01, 0.9, (rows, OBJECTIVES))
    reward_NQ = rng.integers(0, 3, (rows, 2)).astype(float)
    requests_made = Requests(np.repeat(np.arange(requests), places), list_RL[:, 0], list_RL)
    return requests_made, predictions_NI, reward_NQ, rng


def plain_reward(scores, rewards):
    """The mean over the lengths 0 to n - 1 of the reward of the top, by exposure."""
    order = np.argsort(-scores)
    tops = [rewards[order[:length]].sum() for length in range(len(scores))]
    return np.mean(tops) / (len(scores) - 1)


@given(st.integers(0, 30))
def test_the_reward_is_that_of_the_top_on_average_over_its_lengths(seed):
    requests, predictions_NI, reward_NQ, rng = made_lists(seed)
    lists = shown_lists(requests, np.zeros((len(requests), 1)), predictions_NI, reward_NQ)
    action_RD = rng.uniform(-1, 1, (len(lists), ACTIONS))
    ranked_RQ = ranked_reward(lists, action_RD)
    for row, request in enumerate(lists.rows_R):
        rows = requests.list_RL[request][requests.list_RL[request] >= 0]
        scores = log_scores(predictions_NI[rows], action_RD[row])
        expected = [plain_reward(scores, reward_NQ[rows, group]) for group in range(2)]
        np.testing.assert_allclose(ranked_RQ[row], expected)


def test_only_lists_with_something_to_rank_are_kept():
    requests = Requests(np.array([0, 1, 2, 2]), np.array([0, 1, 2]), np.array([[-1, 0], [0, 1], [2, 3]]))
    reward_NQ = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    lists = shown_lists(requests, np.zeros((3, 1)), np.full((4, OBJECTIVES), 0.5), reward_NQ)
    assert lists.rows_R.tolist() == [2]


def test_explored_actions_are_in_the_box_and_a_better_ranking_has_more_reward():
    # The first objective decides the reward, the second one misleads.
    requests, predictions_NI, reward_NQ, _ = made_lists(0, requests=400)
    reward_NQ[:] = (predictions_NI[:, :1] > 0.5).astype(float)
    lists = shown_lists(requests, np.zeros((len(requests), 1)), predictions_NI, reward_NQ)
    log = explored(lists, equal_weights(ACTIONS), Box(0.15, 0.3), draws=3, seed=0)
    assert len(log) == 3 * len(lists)
    assert (np.abs(log.action_ND) <= 0.15).all()
    assert (log.reward_NQ >= 0).all()
    assert (log.next_N == -1).all()
    slope_D = np.linalg.lstsq(np.column_stack([log.action_ND, np.ones(len(log))]), log.reward_NQ[:, 0], rcond=None)[0]
    assert slope_D[0] > 0 > slope_D[1]
    repeated = explored(lists, equal_weights(ACTIONS), Box(0.15, 0.3), draws=3, seed=0)
    np.testing.assert_array_equal(repeated.action_ND, log.action_ND)


def test_a_list_without_a_change_of_order_has_the_reward_of_the_behaviour_policy():
    requests, predictions_NI, reward_NQ, _ = made_lists(1)
    predictions_NI[:] = predictions_NI[:, :1]
    lists = shown_lists(requests, np.zeros((len(requests), 1)), predictions_NI, reward_NQ)
    log = explored(lists, equal_weights(ACTIONS), Box(0.15, 0.3), draws=1, seed=0)
    np.testing.assert_allclose(log.reward_NQ, np.broadcast_to(reward_NQ.max(axis=0), log.reward_NQ.shape))


def test_scores_of_other_actions_are_comparable_and_keep_the_order_of_a_request():
    rng = np.random.default_rng(0)
    predictions_NI = rng.uniform(0.01, 0.9, (200, OBJECTIVES))
    usual_I = usual_predictions(predictions_NI)
    action_D = rng.uniform(-1, 1, ACTIONS)
    score_N = fused_scores(predictions_NI, np.tile(action_D, (200, 1)), usual_I)
    plain_N = log_scores(predictions_NI, action_D)
    assert (np.argsort(score_N) == np.argsort(plain_N)).all()
    usual_N = fused_scores(np.tile(usual_I, (50, 1)), rng.uniform(-1, 1, (50, ACTIONS)), usual_I)
    np.testing.assert_allclose(usual_N, 0.0, atol=1e-9)
    doubled = np.array([1.0, 1.0, 0.3, 0.3])  # powers of 2
    single = np.array([0.0, 0.0, 0.3, 0.3])
    np.testing.assert_allclose(
        *(fused_scores(predictions_NI, np.tile(a, (200, 1)), usual_I) for a in (doubled, single))
    )


def test_usual_predictions_are_geometric_means():
    assert usual_predictions(np.array([[0.1, 0.0], [0.4, 1.0]])) == pytest.approx([0.2, 1e-9**0.5])

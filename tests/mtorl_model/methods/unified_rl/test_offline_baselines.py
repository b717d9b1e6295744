"""The losses of the offline baselines against numbers by hand: the networks are replaced by simple functions."""

import math

import numpy as np
import pytest
import torch

from mtorl_model.methods.unified_rl.config import FusionConfig
from mtorl_model.methods.unified_rl.offline_baselines import CQL, DDPG, IQL, TD3BC
from mtorl_model.methods.unified_rl.offline_learner import Batch, LogTensors
from mtorl_model.methods.unified_rl.transitions import Transitions

CONFIG = FusionConfig(discount=0.5, hidden=4)
# A session of two steps with the actions 0 and .4, the rewards 1 + 0 and 2 + 1.
LOG = Transitions(
    np.zeros((2, 1)), np.array([[0.0], [0.4]]), np.array([[1.0, 0.0], [2.0, 1.0]]), np.zeros((2, 1)), np.array([1, -1])
)
BATCH = Batch(LogTensors(LOG, CONFIG, masks=1, reward_scale=1.0), torch.arange(2))


def constant_actor(action):
    return lambda state_BS: torch.full((len(state_BS), 1), action)


def critics(count, value_of):
    """All critics have the value value_of(action); the number of the critic is added."""
    return lambda _, action_BD: torch.stack([value_of(action_BD[:, 0]) + number for number in range(count)])


def test_ddpg_learns_the_value_of_the_target_actors_action():
    learner = DDPG(CONFIG, state=1, actions=1)
    learner.critics, learner.target_critics = critics(1, lambda a: 10 * a), critics(1, lambda a: a)
    learner.actor, learner.target_actor = constant_actor(0.2), constant_actor(0.6)
    # Targets: 1 + .5 x .6 and, at the session's end, 3. Values: 0 and 4.
    assert learner.critic_loss(BATCH).item() == pytest.approx((1.3**2 + 1.0**2) / 2)
    assert learner.actor_loss(BATCH).item() == pytest.approx(-2.0)


def test_td3_takes_the_smaller_target_and_weighs_value_against_imitation():
    learner = TD3BC(CONFIG, state=1, actions=1)
    learner._noise = 0.0
    learner.critics, learner.target_critics = critics(2, lambda a: 10 * a), critics(2, lambda a: a - 1)
    learner.actor, learner.target_actor = constant_actor(0.2), constant_actor(0.6)
    # The smaller target critic is a - 1: 1 - .2 and 3. The first critic has the values 0 and 4, the second 1 and 5.
    assert learner.critic_loss(BATCH).item() == pytest.approx((0.8**2 + 1.0 + 0.2**2 + 2.0**2) / 4)
    # The value is divided by its own size; the actions are .2 away from the logged ones.
    assert learner.actor_loss(BATCH).item() == pytest.approx(-2.5 + 0.04)


def test_the_noise_of_td3_is_cut_at_half():
    learner = TD3BC(CONFIG, state=1, actions=1)
    learner._noise = 100.0
    learner.critics, learner.target_critics = critics(2, lambda a: 0 * a), critics(2, lambda a: a)
    learner.target_actor = constant_actor(0.0)
    # The target of the first step is 1 + .5 x (-.5 or .5); that of the second is 3. Critics are 0 and 1.
    low, high = (((1 + sign * 0.25) ** 2 + (sign * 0.25) ** 2 + 9 + 4) / 4 for sign in (-1, 1))
    assert round(learner.critic_loss(BATCH).item(), 4) in (round(low, 4), round(high, 4))


def test_cql_adds_the_logarithm_of_the_proposals_if_all_values_are_equal():
    learner, plain = CQL(CONFIG, state=1, actions=1), TD3BC(CONFIG, state=1, actions=1)
    for baseline in (learner, plain):
        baseline._noise = 0.0
        baseline.critics = baseline.target_critics = critics(2, lambda a: 0 * a + 5)
        baseline.actor = baseline.target_actor = constant_actor(0.2)
    assert (learner.critic_loss(BATCH) - plain.critic_loss(BATCH)).item() == pytest.approx(math.log(11))
    assert learner.actor_loss(BATCH).item() == pytest.approx(-5.0)


def test_iql_weighs_differences_by_the_expectile_and_imitates_by_the_advantage():
    learner = IQL(CONFIG, state=1, actions=1)
    learner.critics = learner.target_critics = critics(2, lambda a: a)
    learner.value, learner.actor = (lambda state_BS, _: torch.full((1, len(state_BS)), 0.2)), constant_actor(0.2)
    # Logged values 0 and .4 are .2 below and above V: weights .3 and .7. Targets: 1 + .5 x .2 and 3.
    value_loss = (0.3 * 0.04 + 0.7 * 0.04) / 2
    critic_loss = (1.1**2 + 2.6**2 + 0.1**2 + 1.6**2) / 4
    assert learner.critic_loss(BATCH).item() == pytest.approx(value_loss + critic_loss)
    expected = 0.04 * (math.exp(-3.0 * 0.2) + math.exp(3.0 * 0.2)) / 2
    assert learner.actor_loss(BATCH).item() == pytest.approx(expected)

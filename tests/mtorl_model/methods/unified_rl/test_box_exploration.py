"""Exploration as it is served: uniform in the box, logged with its propensity, the same when it is repeated."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import kstest

from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.config import FusionConfig
from mtorl_model.methods.unified_rl.exploration import ExploringPolicy, are_explored
from mtorl_model.methods.unified_rl.networks import Actor
from mtorl_model.methods.unified_rl.policy import ActorPolicy

BOX = Box(half_width=0.15, penalty_scale=0.3)
REQUESTS = 3_000
IDS = pa.array([f"user {n}" for n in range(REQUESTS)])
STATES = np.random.default_rng(0).normal(size=(REQUESTS, 3))


def by_state(state_NS):
    """Two dimensions, of which the second is sometimes so near to -1 that its box is cut."""
    return np.column_stack([0.2 * np.tanh(state_NS[:, 0]), -0.95 * np.abs(np.tanh(state_NS[:, 1]))])


POLICY = ExploringPolicy(by_state, BOX)
LOG = POLICY.explore(STATES, IDS, "2026-03-01")


def test_every_action_is_in_the_box_and_has_its_propensity():
    low_ND, high_ND = np.maximum(by_state(STATES) - 0.15, -1.0), by_state(STATES) + 0.15
    assert ((low_ND <= LOG.action_ND) & (LOG.action_ND <= high_ND)).all()
    assert pytest.approx(1.0 / (high_ND - low_ND).prod(axis=1)) == LOG.propensity_N
    assert (LOG.centre_ND == by_state(STATES)).all()
    assert are_explored(LOG, BOX).all()


def test_actions_are_uniform_and_independent_by_dimension():
    low_ND = np.maximum(by_state(STATES) - 0.15, -1.0)
    share_ND = (LOG.action_ND - low_ND) / (by_state(STATES) + 0.15 - low_ND)
    for share_N in share_ND.T:
        assert kstest(share_N, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(share_ND.T)[0, 1]) < 0.06


def test_a_request_gets_the_same_action_again_and_another_one_the_next_day():
    assert (POLICY.explore(STATES, IDS, "2026-03-01").action_ND == LOG.action_ND).all()
    backwards = POLICY.explore(STATES[::-1], IDS[::-1], "2026-03-01")
    assert (backwards.action_ND[::-1] == LOG.action_ND).all()
    assert (POLICY.explore(STATES, IDS, "2026-03-02").action_ND != LOG.action_ND).all()


def test_a_row_outside_the_box_or_with_another_propensity_is_found():
    action_ND, propensity_N = LOG.action_ND.copy(), LOG.propensity_N.copy()
    action_ND[3, 0] = by_state(STATES)[3, 0] + 0.2
    propensity_N[5] *= 1.01
    wrong = LOG._replace(action_ND=action_ND, propensity_N=propensity_N)
    assert np.flatnonzero(~are_explored(wrong, BOX)).tolist() == [3, 5]


def test_the_next_days_behaviour_policy_is_todays_champion():
    champion = ActorPolicy(Actor(3, 2, hidden=4))
    config = FusionConfig(half_width=0.1)
    explored = ExploringPolicy.next_day(champion, config, actions=2).explore(STATES, IDS, "2026-03-02")
    assert (explored.centre_ND == champion.act(STATES)).all()
    assert np.abs(explored.action_ND - explored.centre_ND).max() <= 0.1
    first = ExploringPolicy.next_day(None, config, actions=2).explore(STATES, IDS, "2026-03-01")
    assert (first.centre_ND == 0.0).all()

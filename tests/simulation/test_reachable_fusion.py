"""The search by the true value finds policies that earn more, and its forms read what they should."""

import numpy as np
import pytest

from simulation.ranked_sessions import ACTIONS, World
from simulation.reachable_fusion import PROFILE, constant_policy, linear_policy, reachable_gains


@pytest.mark.slow
def test_a_short_search_by_the_truth_beats_equal_weights():
    gains = reachable_gains(seed=7, users=60, generations=6)
    assert gains.keys() == {"one action for all users", "linear in the profile"}
    assert min(gains.values()) > 0.5


def test_the_forms_read_nothing_or_the_profile_alone():
    state_US = World(0).users(5, 0).states(3, np.zeros((5, 4)))
    rng = np.random.default_rng(0)
    constant_UD = constant_policy(rng.normal(size=ACTIONS))(state_US)
    assert (constant_UD == constant_UD[0]).all()
    policy = linear_policy(rng.normal(size=(1 + PROFILE) * ACTIONS))
    later_US = state_US.copy()
    later_US[:, PROFILE:] += 1.0
    np.testing.assert_array_equal(policy(later_US), policy(state_US))
    assert len(np.unique(policy(state_US)[:, 0])) == 5
    assert np.abs(policy(state_US)).max() <= 1

"""The world of ranked sessions: the same seed gives the same world, logs are explored in the box, values are true."""

import numpy as np
import pytest

from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.progressive import equal_weights
from simulation.ranked_sessions import ACTIONS, OBJECTIVES, World, WorldSize, best_fixed_actions

SIZE = WorldSize(candidates=10, list_length=3, steps=5)
BOX = Box(0.15, 0.3)
EQUAL = equal_weights(ACTIONS)


def test_the_same_seed_gives_the_same_sessions():
    log, repeated_log, log_of_seed_4 = (World(seed, SIZE).explored(100, EQUAL, BOX, stream=0) for seed in (3, 3, 4))
    assert (log.state_NS == repeated_log.state_NS).all()
    assert (log.reward_NQ == repeated_log.reward_NQ).all()
    assert log.state_NS.shape != log_of_seed_4.state_NS.shape or (log.state_NS != log_of_seed_4.state_NS).any()


def test_sessions_are_rows_in_order_and_explored_in_the_box():
    log = World(1, SIZE).explored(300, EQUAL, BOX, stream=0)
    assert log.next_N[-1] == -1
    goes_on = np.flatnonzero(log.next_N >= 0)
    assert (log.next_N[goes_on] == goes_on + 1).all()
    place_N = log.state_NS[:, 4]  # after the profile's four tastes
    assert np.diff(place_N)[goes_on] == pytest.approx(1 / SIZE.steps)
    first_N = np.append(0, np.flatnonzero(log.next_N < 0)[:-1] + 1)
    assert (place_N[first_N] == 0.0).all()
    # A session is of one user: the profile stays.
    assert (log.state_NS[goes_on, :4] == log.state_NS[goes_on + 1, :4]).all()
    assert (np.abs(log.action_ND - log.centre_ND) <= 0.15).all()
    assert (log.reward_NQ >= 0).all()


def test_a_log_has_as_many_lists_as_whole_sessions_allow():
    for lists in (40, 300, 7_000):
        assert lists - SIZE.steps < len(World(1, SIZE).explored(lists, EQUAL, BOX, stream=0)) <= lists


def test_a_value_is_the_mean_reward_of_played_sessions():
    """The value weighs a step by the probability that it is reached; the log ends sessions by chance."""
    world = World(2, SIZE)
    log = world.explored(15_000, EQUAL, Box(1e-9, 0.3), stream=5)
    reward = log.reward_NQ.sum() / (log.next_N < 0).sum()
    assert world.users(6_000, stream=5).value(EQUAL).mean() == pytest.approx(reward, rel=0.03)


def test_other_lists_are_of_the_same_users():
    people = World(2, SIZE).users(50, stream=0)
    copies = people.with_other_lists(1)
    no_feedback_UI = np.zeros((50, len(OBJECTIVES)))
    assert (people.states(0, no_feedback_UI) == copies.states(0, no_feedback_UI)).all()
    assert (people.value(EQUAL) != copies.value(EQUAL)).any()


@pytest.mark.slow(0.5)
def test_each_users_own_best_action_is_worth_more_than_the_mean_of_them():
    """Best actions differ between users, so that there is something to personalise."""
    people = World(2, SIZE).users(150, stream=0)
    best_UD = best_fixed_actions(people, rounds=4, samples=16, lists=2)
    mean_UD = np.tile(best_UD.mean(axis=0), (150, 1))
    own, common, equal = (people.value(policy).mean() for policy in (lambda _: best_UD, lambda _: mean_UD, EQUAL))
    assert own > 1.05 * common
    assert own > 1.05 * equal

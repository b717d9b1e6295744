"""The simulator fulfils the contract of an environment, and its truth is that of the generator."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.generator.behaviour import criteo_world
from simulation.simulator import _CONVERSION, HOURS, Simulator

USERS = 40
USER_IDS = np.arange(USERS)
UNLIMITED = np.full(USERS, 2**60)


def after_the_past(seed: int = 0, users: int = USERS, **world) -> Simulator:
    simulator = Simulator(users, seed, replace(criteo_world(), **world))
    for _ in simulator.reset():
        pass
    return simulator


def test_an_outcome_does_not_depend_on_the_batch():
    batched, single = after_the_past(), after_the_past()
    for number in range(3):
        for simulator in (batched, single):
            simulator.moment(number)
        channel = (USER_IDS + number) % 11
        outcome = batched.step(number, USER_IDS, channel, UNLIMITED)
        for user in USER_IDS[::-1]:
            user_outcome = single.step(number, USER_IDS[user : user + 1], channel[user : user + 1], UNLIMITED[:1])
            assert user_outcome.cost_nano_N[0] == outcome.cost_nano_N[user]
            assert user_outcome.gains_NG[0].tolist() == outcome.gains_NG[user].tolist()
    np.testing.assert_array_equal(batched.state.fatigue_UC, single.state.fatigue_UC)
    assert batched.truth.realised == pytest.approx(single.truth.realised)


def test_an_offer_that_is_sent_again_changes_nothing():
    simulator = after_the_past()
    simulator.moment(0)
    first = simulator.step(0, USER_IDS, USER_IDS % 11, UNLIMITED)
    fatigue, expected = simulator.state.fatigue_UC.copy(), list(simulator.truth.expected)
    second = simulator.step(0, USER_IDS, USER_IDS % 11, UNLIMITED)
    assert second.cost_nano_N.tolist() == first.cost_nano_N.tolist()
    np.testing.assert_array_equal(simulator.state.fatigue_UC, fatigue)
    assert simulator.truth.expected == expected


def test_a_restarted_world_has_the_state_of_the_killed_one():
    original, restarted = after_the_past(), after_the_past()
    for number in range(4):
        original.moment(number)
        restarted.moment(number)
        restarted.recover(number, original.step(number, USER_IDS, USER_IDS % 11, UNLIMITED))
    for simulator in (original, restarted):
        simulator.moment(4)
    np.testing.assert_array_equal(original.state.mood_UD, restarted.state.mood_UD)
    np.testing.assert_array_equal(original.state.fatigue_UC, restarted.state.fatigue_UC)
    assert original.moment(4).late == restarted.moment(4).late
    channel = (USER_IDS + 3) % 11
    costs = [s.step(4, USER_IDS, channel, UNLIMITED).cost_nano_N.tolist() for s in (original, restarted)]
    assert costs[0] == costs[1]


def test_an_offer_that_costs_more_than_its_bid_leads_to_no_exposure():
    simulator = after_the_past()
    simulator.moment(0)
    unlimited = after_the_past()
    unlimited.moment(0)
    price = unlimited.step(0, USER_IDS, USER_IDS % 11, UNLIMITED).cost_nano_N
    bid = price - (USER_IDS % 2)  # every other bid is one nano short
    outcome = simulator.step(0, USER_IDS, USER_IDS % 11, bid)
    assert outcome.exposed_N.tolist() == (USER_IDS % 2 == 0).tolist()
    assert (outcome.cost_nano_N <= bid).all()
    assert not outcome.gains_NG[~outcome.exposed_N].any()
    assert simulator.state.fatigue_UC[1::2].sum() < unlimited.state.fatigue_UC[1::2].sum()


def test_conversions_become_known_when_they_happen_and_once():
    """Every click has a conversion, which the outcome does not contain."""
    simulator = after_the_past(conversion_bias_C=np.full(11, 30.0), delay_median_s=3 * HOURS * 3600.0, delay_max_s=1e6)
    known = [late for moment, _ in simulator.reset() for late in moment.late]
    for number in range(12):
        moment = simulator.moment(number)
        known += moment.late
        assert all(late.known_at_ms < moment.at_ms_N[0] for late in moment.late)
        if number < 3:
            assert not simulator.step(number, USER_IDS, USER_IDS % 11, UNLIMITED).gains_NG[:, _CONVERSION].any()
    assert len(set(known)) == len(known)
    conversions = sum(int(gains[:, _CONVERSION].sum()) for gains in simulator.past_gains)
    assert conversions > 50
    pending = len(simulator._pending)
    realised = sum(simulator.truth.realised)  # a click with its conversion has reward 1
    assert realised > 3
    assert len(known) + pending == conversions + round(realised)


@pytest.mark.slow
def test_the_truth_is_the_mean_of_the_outcomes():
    simulator = after_the_past(users=4000)
    simulator.moment(0)
    reward, cost = simulator.reward(), simulator.cost_nano()
    channel = np.arange(4000) % 11
    outcome = simulator.step(0, np.arange(4000), channel, np.full(4000, 2**60))
    expected = reward[np.arange(4000), channel].sum()
    assert simulator.truth.expected[0] == pytest.approx(expected)
    assert simulator.truth.realised[0] == pytest.approx(expected, rel=0.15)
    assert outcome.cost_nano_N.sum() == pytest.approx(cost[np.arange(4000), channel].sum(), rel=0.15)


def test_other_seeds_have_other_users():
    assert not np.allclose(after_the_past(0).state.home_UD, after_the_past(1).state.home_UD)

"""The simulator keeps the environment's contract, and its truth is the generator's."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.generator.behaviour import criteo_world
from simulation.simulator import _CONVERSION, HOURS, Simulator

USERS = 40
ALL = np.arange(USERS)
FREE = np.full(USERS, 2**60)


def begun(seed: int = 0, users: int = USERS, **world) -> Simulator:
    simulator = Simulator(users, seed, replace(criteo_world(), **world))
    for _ in simulator.reset():
        pass
    return simulator


def test_an_answer_does_not_depend_on_the_batch():
    whole, parts = begun(), begun()
    for number in range(3):
        for simulator in (whole, parts):
            simulator.moment(number)
        channel = (ALL + number) % 11
        together = whole.step(number, ALL, channel, FREE)
        for user in ALL[::-1]:
            alone = parts.step(number, ALL[user : user + 1], channel[user : user + 1], FREE[:1])
            assert alone.cost_nano_N[0] == together.cost_nano_N[user]
            assert alone.gains_NG[0].tolist() == together.gains_NG[user].tolist()
    np.testing.assert_array_equal(whole.state.fatigue_UC, parts.state.fatigue_UC)
    assert whole.truth.realised == pytest.approx(parts.truth.realised)


def test_an_offer_that_is_sent_again_changes_nothing_again():
    simulator = begun()
    simulator.moment(0)
    first = simulator.step(0, ALL, ALL % 11, FREE)
    fatigue, earned = simulator.state.fatigue_UC.copy(), list(simulator.truth.expected)
    again = simulator.step(0, ALL, ALL % 11, FREE)
    assert again.cost_nano_N.tolist() == first.cost_nano_N.tolist()
    np.testing.assert_array_equal(simulator.state.fatigue_UC, fatigue)
    assert simulator.truth.expected == earned


def test_a_restarted_world_is_where_the_killed_one_was():
    lived, restarted = begun(), begun()
    for number in range(4):
        lived.moment(number)
        restarted.moment(number)
        restarted.recover(number, lived.step(number, ALL, ALL % 11, FREE))
    for simulator in (lived, restarted):
        simulator.moment(4)
    np.testing.assert_array_equal(lived.state.mood_UD, restarted.state.mood_UD)
    np.testing.assert_array_equal(lived.state.fatigue_UC, restarted.state.fatigue_UC)
    assert lived.moment(4).late == restarted.moment(4).late
    channel = (ALL + 3) % 11
    costs = [s.step(4, ALL, channel, FREE).cost_nano_N.tolist() for s in (lived, restarted)]
    assert costs[0] == costs[1]


def test_what_costs_more_than_its_bid_is_not_shown():
    simulator = begun()
    simulator.moment(0)
    free = begun()
    free.moment(0)
    price = free.step(0, ALL, ALL % 11, FREE).cost_nano_N
    bid = price - (ALL % 2)  # every other bid is one nano short
    outcome = simulator.step(0, ALL, ALL % 11, bid)
    assert outcome.exposed_N.tolist() == (ALL % 2 == 0).tolist()
    assert (outcome.cost_nano_N <= bid).all()
    assert not outcome.gains_NG[~outcome.exposed_N].any()
    assert simulator.state.fatigue_UC[1::2].sum() < free.state.fatigue_UC[1::2].sum()


def test_conversions_are_heard_of_when_they_happen_and_once():
    """A conversion after every click, and none in the answer itself."""
    simulator = begun(conversion_bias_C=np.full(11, 30.0), delay_median_s=3 * HOURS * 3600.0, delay_max_s=1e6)
    heard = [late for moment, _ in simulator.reset() for late in moment.late]
    for number in range(12):
        moment = simulator.moment(number)
        heard += moment.late
        assert all(late.known_at_ms < moment.at_ms_N[0] for late in moment.late)
        if number < 3:
            assert not simulator.step(number, ALL, ALL % 11, FREE).gains_NG[:, _CONVERSION].any()
    assert len(set(heard)) == len(heard)
    conversions = sum(int(gains[:, _CONVERSION].sum()) for gains in simulator.past_gains)
    assert conversions > 50
    waiting = len(simulator._pending)
    realised = sum(simulator.truth.realised)  # each is a click and a conversion, a reward of 1
    assert realised > 3
    assert len(heard) + waiting == conversions + round(realised)


def test_the_truth_is_what_happens_on_average():
    simulator = begun(users=4000)
    simulator.moment(0)
    reward, cost = simulator.reward(), simulator.cost_nano()
    channel = np.arange(4000) % 11
    outcome = simulator.step(0, np.arange(4000), channel, np.full(4000, 2**60))
    expected = reward[np.arange(4000), channel].sum()
    assert simulator.truth.expected[0] == pytest.approx(expected)
    assert simulator.truth.realised[0] == pytest.approx(expected, rel=0.15)
    assert outcome.cost_nano_N.sum() == pytest.approx(cost[np.arange(4000), channel].sum(), rel=0.15)


def test_other_seeds_are_other_people():
    assert not np.allclose(begun(0).state.home_UD, begun(1).state.home_UD)

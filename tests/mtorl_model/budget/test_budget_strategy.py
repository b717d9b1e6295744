"""What strategies choose, and that it depends on the journeys and the budget but not on the batches."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from toy_campaign import TOY, Partner, empty_memory, level, run, untrained

from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.strategy import AtRandom, Pairs, Published, RecordPairs, believe, draw, explore
from mtorl_model.inference.ranking import fused_reward

MODEL, LEVEL = untrained(), level()
STRATEGIES = {
    "pairs": Pairs(MODEL, LEVEL, TOY),
    "pairs of users at random": Pairs(MODEL, LEVEL, TOY, user_level=False),
    "records in pairs": RecordPairs(MODEL, LEVEL, TOY),
    "published": Published(MODEL, LEVEL),
    "published, users at random": Published(MODEL, LEVEL, user_level=False),
    "at random": AtRandom(LEVEL),
}
USERS = 30


def lived(rounds: int = 3, users: int = USERS) -> tuple[JourneyMemory, Partner]:
    """Journeys of 0 to `rounds` exposures."""
    partner = Partner(np.full((rounds + 1, users, 3), 5), [9, 9, 9], 10**9)
    memory = empty_memory(partner)
    for number in range(rounds):
        moment = partner.moment(number)
        shown = moment.user_N[moment.user_N % (rounds + 1) > number]
        outcome = partner.step(number, shown, (shown + number) % 3, np.full(len(shown), 9))
        memory.observe(outcome, {"hour": moment.context["hour"].take(pa.array(shown))})
    return memory, partner


@pytest.mark.parametrize("name", STRATEGIES)
def test_batched_and_one_by_one_agree(name, tmp_path):
    """Journeys and what is left of the budget decide what comes next: both must be the same in every batch size."""
    cost = np.random.default_rng(0).integers(0, 40, (5, 12, 3))
    ends = []
    for size in (1, 5, 100):
        partner = Partner(cost, [40, 40, 40], 800)
        ledger, memory = run(
            partner, 800, tmp_path / f"{size}", at_once=size, rounds=4, strategy=STRATEGIES[name]
        )  # fmt: skip
        ends.append((ledger, partner.bank, memory.exposures_UA.tolist(), memory.gains_UAG.tolist()))
    assert ends[0] == ends[1] == ends[2]
    assert len([1 for shown in ends[0][0].exposures[1:] if shown]) > 1  # later rounds saw earlier answers
    assert ends[0][0].total_nano <= 800


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_choice_keeps_to_its_share_and_asks_nobody_twice(name):
    memory, partner = lived()
    moment = partner.moment(3)
    for budget in (0, 30, 100, 10**6):
        choice = STRATEGIES[name].choose(memory, moment, budget, np.random.default_rng(0))
        again = STRATEGIES[name].choose(memory, moment, budget, np.random.default_rng(0))
        assert [n.tolist() for n in choice] == [n.tolist() for n in again]
        assert len(set(choice.user_N.tolist())) == len(choice.user_N) == len(choice.channel_N)
        # no pair is expected to cost less than the cheapest channel does without a click
        assert len(choice.user_N) <= budget / LEVEL.cost_A.min() + 1e-9
    assert len(choice.user_N) > USERS / 2


def test_users_of_a_short_journey_have_equation_17_and_the_base_rates():
    memory, partner = lived()
    policy_NA, gains_NG = believe(MODEL, memory, partner.moment(3), LEVEL)
    short = np.arange(USERS) % 4 < 2
    np.testing.assert_array_equal(policy_NA[short], np.tile(LEVEL.initial_A, (short.sum(), 1)))
    np.testing.assert_array_equal(gains_NG[short], np.tile([0.25, 0.125], (short.sum(), 1)))
    assert (policy_NA[~short] != LEVEL.initial_A).all()
    np.testing.assert_allclose(policy_NA.sum(axis=1), 1.0, atol=1e-6)


def test_the_published_rule_takes_the_top_users():
    memory, partner = lived()
    moment = partner.moment(3)
    _, gains_NG = believe(MODEL, memory, moment, LEVEL)
    wish = fused_reward(gains_NG, MODEL.spec.gain_weights)
    choice = STRATEGIES["published"].choose(memory, moment, 100, np.random.default_rng(0))
    assert choice.user_N.tolist() == np.argsort(-wish, kind="stable")[: len(choice.user_N)].tolist()
    assert 0 < len(choice.user_N) < USERS
    shuffled = STRATEGIES["published, users at random"].choose(memory, moment, 100, np.random.default_rng(0))
    assert shuffled.user_N.tolist() != choice.user_N.tolist()


def test_eta_weighs_the_model_against_the_initial_policy():
    """Line 12 of algorithm 1: at 0 the channels are the initial policy's, at 1 the model's."""
    users = 3000
    memory, partner = lived(3, users)
    moment = partner.moment(3)
    policy, _ = believe(MODEL, memory, moment, LEVEL)
    certain = replace(LEVEL, initial_A=np.array([0.0, 0.0, 1.0]))
    for eta in (0.0, 0.5, 1.0):
        choice = Published(MODEL, certain, eta=eta).choose(memory, moment, 10**9, np.random.default_rng(0))
        assert len(choice.user_N) == users
        long = np.arange(users) % 4 >= 2  # the others have the initial policy in any case
        share = np.bincount(choice.channel_N[long[choice.user_N]], minlength=3) / long.sum()
        expected = eta * policy[long].mean(axis=0) + (1 - eta) * certain.initial_A
        np.testing.assert_allclose(share, expected, atol=0.05)


def test_a_good_record_in_a_channel_wins_it():
    """The same user, with clicks in one channel or another: where money does not matter, that one is bought."""
    memory, partner = lived()
    moment = partner.moment(3)
    memory.exposures_UA[7] += 20
    for channel in range(3):
        memory.gains_UAG[7, :, 0] = np.where(np.arange(3) == channel, 20, 0)
        choice = STRATEGIES["pairs"].choose(memory, moment, 10**6, np.random.default_rng(0))
        assert choice.channel_N[choice.user_N == 7].tolist() == [channel]


def test_exploration_asks_only_users_of_a_short_journey():
    memory, partner = lived()
    choice = explore(memory, partner.moment(3), LEVEL, 10**6, np.random.default_rng(0))
    assert sorted(choice.user_N.tolist()) == [u for u in range(USERS) if u % 4 < 2]


def test_draws_follow_the_policy():
    policy = np.tile([0.5, 0.0, 0.3, 0.2], (20_000, 1))
    share = np.bincount(draw(policy, np.random.default_rng(0)), minlength=4) / 20_000
    np.testing.assert_allclose(share, policy[0], atol=0.02)
    assert share[1] == 0

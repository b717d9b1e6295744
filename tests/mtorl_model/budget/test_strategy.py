"""The choices of the strategies: they depend on the journeys and the budget, but not on the batches."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from toy_campaign import TOY, Partner, empty_memory, level, run, untrained

from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.strategy import (
    AtRandom,
    Pairs,
    Published,
    RecordPairs,
    draw,
    explore,
    predict_moment,
    published_rule,
)
from mtorl_model.budget.taste_filter import Tastes
from mtorl_model.inference.ranking import fused_reward
from mtorl_model.methods.method import POLICY

MODEL, LEVEL = untrained(), level()
TASTES = Tastes(
    np.array([-1.0, -0.8, -0.6]),
    np.array([[1.0, 1.2, 0.0], [1.0, -0.6, 1.0], [1.0, -0.6, -1.0]]),
    0.6,
    3e8,
    fatigue=0.2,
    fatigue_ms=8e7,
)
STRATEGIES = {
    "pairs": Pairs(MODEL, LEVEL, TOY, TASTES),
    "pairs of users at random, by taste": Pairs(MODEL, LEVEL, TOY, TASTES, user_level=False),
    "composed pairs": Pairs(MODEL, LEVEL, TOY),
    "pairs of users at random": Pairs(MODEL, LEVEL, TOY, user_level=False),
    "records in pairs": RecordPairs(MODEL, LEVEL, TOY),
    "published": Published(MODEL, LEVEL),
    "published, users at random": Published(MODEL, LEVEL, user_level=False),
    "at random": AtRandom(LEVEL),
}
USERS = 30


def after_rounds(rounds: int = 3, users: int = USERS) -> tuple[JourneyMemory, Partner]:
    """Users with journeys of 0 to `rounds` exposures."""
    partner = Partner(np.full((rounds + 1, users, 3), 5), [9, 9, 9], 10**9)
    memory = empty_memory(partner)
    for number in range(rounds):
        moment = partner.moment(number)
        user_N = moment.user_N[moment.user_N % (rounds + 1) > number]
        outcome = partner.step(number, user_N, (user_N + number) % 3, np.full(len(user_N), 9))
        memory.observe(outcome, {"hour": moment.context["hour"].take(pa.array(user_N))})
    return memory, partner


@pytest.mark.slow(0.5)
@pytest.mark.parametrize("name", STRATEGIES)
def test_batched_and_one_by_one_agree(name, tmp_path):
    """Later offers depend on the journeys and the remaining budget; these must be the same for every batch size."""
    cost = np.random.default_rng(0).integers(0, 40, (5, 12, 3))
    ends = []
    for size in (1, 5, 100):
        partner = Partner(cost, [40, 40, 40], 800)
        ledger, memory = run(
            partner, 800, tmp_path / f"{size}", batch_size=size, rounds=4, strategy=STRATEGIES[name]
        )  # fmt: skip
        ends.append((ledger, partner.bank, memory.exposures_UA.tolist(), memory.gains_UAG.tolist()))
    assert ends[0] == ends[1] == ends[2]
    assert len([1 for exposures in ends[0][0].exposures[1:] if exposures]) > 1  # later rounds saw earlier outcomes
    assert ends[0][0].total_nano <= 800


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_choice_stays_within_its_share_and_contains_no_user_twice(name):
    memory, partner = after_rounds()
    moment = partner.moment(3)
    for budget in (0, 30, 100, 10**6):
        choice = STRATEGIES[name].choose(memory, moment, budget, np.random.default_rng(0))
        second = STRATEGIES[name].choose(memory, moment, budget, np.random.default_rng(0))
        assert [n.tolist() for n in choice] == [n.tolist() for n in second]
        assert len(set(choice.user_N.tolist())) == len(choice.user_N) == len(choice.channel_N)
        # The lowest expected cost of a pair is that of the cheapest channel without a click.
        assert len(choice.user_N) <= budget / LEVEL.cost_A.min() + 1e-9
    assert len(choice.user_N) > USERS / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pairs", "composed pairs"])
def test_a_killed_campaign_resumes_with_the_same_choices(name, tmp_path):
    """The records of the users are restored from the journal."""
    cost = np.random.default_rng(0).integers(0, 40, (6, 12, 3))

    class Killed(Exception):
        pass

    class KilledPartner(Partner):
        def step(self, number, user_N, channel_N, bid_nano_N):
            if number == 4 and user_N[0] != first_offer:
                raise Killed
            return super().step(number, user_N, channel_N, bid_nano_N)

    uninterrupted = Partner(cost, [40, 40, 40], 900)
    expected, memory = run(uninterrupted, 900, tmp_path / "a", batch_size=1, rounds=5, strategy=STRATEGIES[name])
    last_round = [outcome for outcome in expected.outcomes if outcome.at_ms_N[0] == uninterrupted.moment(4).at_ms_N[0]]
    assert len(last_round) > 1
    first_offer = last_round[0].user_N[0]
    bank = tmp_path / "bank"
    with pytest.raises(Killed):
        run(KilledPartner(cost, [40, 40, 40], 900, bank), 900, tmp_path / "b", batch_size=1, rounds=5,
            strategy=STRATEGIES[name])  # fmt: skip
    resumed, resumed_memory = run(
        Partner(cost, [40, 40, 40], 900, bank), 900, tmp_path / "b", batch_size=1, rounds=5, strategy=STRATEGIES[name]
    )
    assert resumed == expected
    users = np.arange(12)
    for field in ("at_ms_NT", "channel_NT", "click_NT", "earlier_exposures_NA", "earlier_clicks_NA"):
        np.testing.assert_array_equal(
            getattr(resumed_memory.record(users), field), getattr(memory.record(users), field)
        )


def test_users_with_a_short_journey_get_equation_17_and_the_base_rates():
    memory, partner = after_rounds()
    policy_NA, gains_NG = predict_moment(MODEL, memory, partner.moment(3), LEVEL)
    short = np.arange(USERS) % 4 < 2
    np.testing.assert_array_equal(policy_NA[short], np.tile(LEVEL.initial_A, (short.sum(), 1)))
    np.testing.assert_array_equal(gains_NG[short], np.tile([0.25, 0.125], (short.sum(), 1)))
    assert (policy_NA[~short] != LEVEL.initial_A).all()
    np.testing.assert_allclose(policy_NA.sum(axis=1), 1.0, atol=1e-6)


def test_the_published_rule_chooses_the_top_users():
    memory, partner = after_rounds()
    moment = partner.moment(3)
    _, gains_NG = predict_moment(MODEL, memory, moment, LEVEL)
    reward_N = fused_reward(gains_NG, MODEL.spec.gain_weights)
    choice = STRATEGIES["published"].choose(memory, moment, 100, np.random.default_rng(0))
    assert choice.user_N.tolist() == np.argsort(-reward_N, kind="stable")[: len(choice.user_N)].tolist()
    assert 0 < len(choice.user_N) < USERS
    shuffled = STRATEGIES["published, users at random"].choose(memory, moment, 100, np.random.default_rng(0))
    assert shuffled.user_N.tolist() != choice.user_N.tolist()


def test_eta_weighs_the_model_against_the_initial_policy():
    """Line 12 of algorithm 1: eta 0 draws from the initial policy, eta 1 from the policy of the model."""
    users = 3000
    memory, partner = after_rounds(3, users)
    moment = partner.moment(3)
    policy, _ = predict_moment(MODEL, memory, moment, LEVEL)
    last_channel = replace(LEVEL, initial_A=np.array([0.0, 0.0, 1.0]))
    for eta in (0.0, 0.5, 1.0):
        choice = Published(MODEL, last_channel, eta=eta).choose(memory, moment, 10**9, np.random.default_rng(0))
        assert len(choice.user_N) == users
        long = np.arange(users) % 4 >= 2  # users with a short journey always get the initial policy
        share = np.bincount(choice.channel_N[long[choice.user_N]], minlength=3) / long.sum()
        expected = eta * policy[long].mean(axis=0) + (1 - eta) * last_channel.initial_A
        np.testing.assert_allclose(share, expected, atol=0.05)


def test_a_good_record_in_a_channel_decides():
    """With money for every pair, the plan buys the channel in which the user has clicked."""
    memory, partner = after_rounds()
    moment = partner.moment(3)
    memory.exposures_UA[7] += 20
    for channel in range(3):
        memory.gains_UAG[7, :, 0] = np.where(np.arange(3) == channel, 20, 0)
        for name in ("pairs", "composed pairs"):
            choice = STRATEGIES[name].choose(memory, moment, 10**6, np.random.default_rng(0))
            assert choice.channel_N[choice.user_N == 7].tolist() == [channel], name


def test_exploration_offers_only_to_users_with_a_short_journey():
    memory, partner = after_rounds()
    choice = explore(memory, partner.moment(3), LEVEL, 10**6, np.random.default_rng(0))
    assert sorted(choice.user_N.tolist()) == [u for u in range(USERS) if u % 4 < 2]


def test_draws_follow_the_policy():
    policy = np.tile([0.5, 0.0, 0.3, 0.2], (20_000, 1))
    share = np.bincount(draw(policy, np.random.default_rng(0)), minlength=4) / 20_000
    np.testing.assert_allclose(share, policy[0], atol=0.02)
    assert share[1] == 0


def test_the_published_rule_takes_users_at_random_for_a_method_that_predicts_no_gains(monkeypatch):
    assert published_rule(MODEL, LEVEL).user_level
    monkeypatch.setattr(MODEL, "predicts", frozenset({POLICY}))
    assert not published_rule(MODEL, LEVEL).user_level

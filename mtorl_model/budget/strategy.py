"""What to offer to whom in a round: the published rule, and the knapsack over (user, channel) pairs.

A strategy orders its offers by how much it wants them; expected costs add up to the round's share of the budget. The
hard limit is not its business: the procedure makes an offer only where its bid is covered.
Shapes: N users of the moment, A actions (channels), G gains.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from mtorl_model.budget.environment import Moment
from mtorl_model.budget.knapsack import NOTHING, best_pairs
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.pair_reward import KAPPA, pair_click, pair_cost_nano, pair_reward
from mtorl_model.data.money import Floats, Ints, affordable
from mtorl_model.inference.channel_level import ChannelLevel, click_gain
from mtorl_model.inference.ranking import fused_reward
from mtorl_model.inference.scoring import MIN_JOURNEY
from mtorl_model.methods.method import WINDOWS_AT_ONCE, Method, base_rates
from schemas.dataset import Dataset


class Choice(NamedTuple):
    """Whom to offer what, what is wanted most first: distinct users, a channel each."""

    user_N: Ints
    channel_N: Ints


class Strategy(Protocol):
    """Chooses the offers of a round. The same state, budget and generator give the same choice."""

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        """budget: nano, what the round may be expected to cost."""


def believe(model: Method, memory: JourneyMemory, moment: Moment, level: ChannelLevel) -> tuple[Floats, Floats]:
    """[N, A] and [N, G]: policies and gains of all users, as score.py publishes them at night.

    Users with a short journey have the initial policy and the base rates. So have all users if the model does not
    predict policies or gains.
    """
    windows = memory.windows(moment)
    users = len(moment.user_N)
    policy_NA = np.tile(level.initial_A, (users, 1))
    gains_NG = np.tile(np.array(base_rates(model)), (users, 1))
    long_N = memory.exposures_UA[moment.user_N].sum(axis=1) >= MIN_JOURNEY
    for start in range(0, users, WINDOWS_AT_ONCE):
        part = slice(start, start + WINDOWS_AT_ONCE)
        predicted_policy_BLA, predicted_gains_BLG = model.predict(windows.take(part).batch())
        if predicted_policy_BLA is not None:
            policy_NA[part][long_N[part]] = predicted_policy_BLA[long_N[part], -1]
        if predicted_gains_BLG is not None:
            gains_NG[part][long_N[part]] = predicted_gains_BLG[long_N[part], -1]
    return policy_NA, gains_NG


def value_pairs(
    policy_NA: Floats,
    gains_NG: Floats,
    memory: JourneyMemory,
    moment: Moment,
    level: ChannelLevel,
    dataset: Dataset,
    kappa: float = KAPPA,
) -> tuple[Floats, Ints]:
    """[N, A]: expected reward and cost (nano) of every pair, from policies and gains of the users (see believe)."""
    gain, user_N = click_gain(dataset), moment.user_N
    click_N = gains_NG[:, gain]
    click_NA = pair_click(
        click_N, policy_NA, level.lift_A, memory.exposures_UA[user_N], memory.gains_UAG[user_N, :, gain], kappa
    )
    fused_N = fused_reward(gains_NG, tuple(g.weight for g in dataset.gains))
    return pair_reward(fused_N, click_N, click_NA), pair_cost_nano(click_NA, level)


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """Algorithm 1 as printed: the top users by predicted reward, a channel each drawn from their averaged policy.

    eta weighs the model's policy against the initial one (line 12); N is what the round's budget is expected to pay.
    """

    model: Method
    level: ChannelLevel
    eta: float = 0.5
    user_level: bool = True  # False: users at random

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        policy_NA, gains_NG = believe(self.model, memory, moment, self.level)
        policy_NA = self.eta * policy_NA + (1 - self.eta) * self.level.initial_A
        channel_N = draw(policy_NA, rng)
        wish_N = fused_reward(gains_NG, self.model.spec.gain_weights)
        order = np.argsort(-wish_N, kind="stable") if self.user_level else rng.permutation(len(wish_N))
        return first_that_fit(moment, order, channel_N, self.level.mean_cost_A, budget)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The best (user, channel) pairs for the round's budget by their expected reward: our own step beyond the paper."""

    model: Method
    level: ChannelLevel
    dataset: Dataset
    kappa: float = KAPPA
    user_level: bool = True  # False: users at random, each in the channel that brings most for its cost

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        policy_NA, gains_NG = believe(self.model, memory, moment, self.level)
        reward_NA, cost_NA = value_pairs(policy_NA, gains_NG, memory, moment, self.level, self.dataset, self.kappa)
        if self.user_level:
            return pairs_for(moment, reward_NA, cost_NA, budget)
        channel_N = (reward_NA / np.maximum(cost_NA, 1)).argmax(axis=1)
        cost_N = np.take_along_axis(cost_NA, channel_N[:, None], axis=1)[:, 0]
        order = rng.permutation(len(channel_N))
        order = order[: affordable(cost_N[order], budget)]
        return Choice(moment.user_N[order], channel_N[order])


@dataclass(frozen=True, slots=True, eq=False)
class RecordPairs:
    """Control: the composition and knapsack of `Pairs` without any model. Everybody is worth the log's base rates.

    What is left is each user's own record by channel, and the channel level.
    """

    model: Method  # of which only the initial policy is asked
    level: ChannelLevel
    dataset: Dataset

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        initial, users = self.model.initial_policy, len(moment.user_N)
        policy_NA, gains_NG = np.tile(initial.channel_shares, (users, 1)), np.tile(base_rates(self.model), (users, 1))
        return pairs_for(moment, *value_pairs(policy_NA, gains_NG, memory, moment, self.level, self.dataset), budget)


@dataclass(frozen=True, slots=True, eq=False)
class AtRandom:
    """Users in random order, channels alike: what a budget brings without any knowledge."""

    level: ChannelLevel

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        channel_N = rng.integers(0, len(self.level.channels), len(moment.user_N))
        return first_that_fit(moment, rng.permutation(len(channel_N)), channel_N, self.level.mean_cost_A, budget)


def pairs_for(moment: Moment, reward_NA: Floats, cost_nano_NA: Ints, budget: int) -> Choice:
    """The best pairs within the budget, those that bring most for their cost first."""
    plan = best_pairs(reward_NA, cost_nano_NA, budget)
    chosen = np.flatnonzero(plan.channel_U != NOTHING)
    channel = plan.channel_U[chosen]
    order = np.argsort(-reward_NA[chosen, channel] / np.maximum(cost_nano_NA[chosen, channel], 1), kind="stable")
    return Choice(moment.user_N[chosen[order]], channel[order])


def explore(
    memory: JourneyMemory, moment: Moment, level: ChannelLevel, budget: int, rng: np.random.Generator
) -> Choice:
    """Line 2 of algorithm 1: the users whose journey is too short for the model, in channels of the initial policy.

    In random order: where the budget does not cover all, it is nobody's place in the table that decides.
    """
    short = np.flatnonzero(memory.exposures_UA[moment.user_N].sum(axis=1) < MIN_JOURNEY)
    channel_N = draw(np.tile(level.initial_A, (len(moment.user_N), 1)), rng)
    return first_that_fit(moment, rng.permutation(short), channel_N, level.mean_cost_A, budget)


def first_that_fit(moment: Moment, order: Ints, channel_N: Ints, cost_nano_A: Ints, budget: int) -> Choice:
    """The users in that order, as many as the budget is expected to cover."""
    order = order[: affordable(cost_nano_A[channel_N[order]], budget)]
    return Choice(moment.user_N[order], channel_N[order])


def draw(policy_NA: Floats, rng: np.random.Generator) -> Ints:
    """One channel a row; the last takes what rounding leaves."""
    reached_NA = np.cumsum(policy_NA[:, :-1], axis=1) <= rng.random(len(policy_NA))[:, None]
    channel_N: Ints = reached_NA.sum(axis=1)
    return channel_N

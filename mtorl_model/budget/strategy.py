"""Strategies choose the offers of a round: the published rule, and the knapsack over (user, channel) pairs.

A strategy orders its offers by preference. Their expected costs add up to no more than the round's share of the budget.
The hard limit is enforced elsewhere: the procedure makes an offer only if its bid is covered.

Shapes: N users of the moment, A actions (channels), G gains.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from mtorl_model.budget.environment import Moment
from mtorl_model.budget.knapsack import NO_CHANNEL, best_pairs
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.pair_reward import KAPPA, pair_click, pair_cost_nano, pair_reward
from mtorl_model.budget.taste_filter import Tastes
from mtorl_model.data.money import Floats, Ints, affordable
from mtorl_model.inference.channel_level import ChannelLevel, click_gain
from mtorl_model.inference.ranking import fused_reward
from mtorl_model.inference.scoring import MIN_JOURNEY
from mtorl_model.methods.method import GAINS, WINDOWS_AT_ONCE, Method, base_rates
from schemas.dataset import Dataset


class Choice(NamedTuple):
    """One channel for each chosen user, the most preferred first. No user appears twice."""

    user_N: Ints
    channel_N: Ints


class Strategy(Protocol):
    """Chooses the offers of a round. The same memory, moment, budget and generator state give the same choice."""

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        """budget: nano, the most that the expected costs may add up to."""


def predict_moment(model: Method, memory: JourneyMemory, moment: Moment, level: ChannelLevel) -> tuple[Floats, Floats]:
    """[N, A] and [N, G]: policies and gains of all users of the moment, as score.py publishes them at night.

    A user with a short journey gets the initial policy and the base rates of the gains. Every user gets them if the
    model does not predict policies, or gains.
    """
    windows = memory.windows(moment)
    users = len(moment.user_N)
    policy_NA = np.tile(level.initial_A, (users, 1))
    gains_NG = np.tile(np.array(base_rates(model)), (users, 1))
    long_N = memory.exposures_UA[moment.user_N].sum(axis=1) >= MIN_JOURNEY
    for start in range(0, users, WINDOWS_AT_ONCE):
        part = slice(start, start + WINDOWS_AT_ONCE)
        predicted = model.predict_last(windows.take(part).batch())
        if predicted.policy_XA is not None:
            policy_NA[part][long_N[part]] = predicted.policy_XA[long_N[part], -1]
        if predicted.gains_XG is not None:
            gains_NG[part][long_N[part]] = predicted.gains_XG[long_N[part], -1]
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
    """[N, A]: expected reward and cost (nano) of every pair, composed from the users' predicted policies and gains."""
    gain, user_N = click_gain(dataset), moment.user_N
    click_N = gains_NG[:, gain]
    click_NA = pair_click(
        click_N, policy_NA, level.lift_A, memory.exposures_UA[user_N], memory.gains_UAG[user_N, :, gain], kappa
    )
    fused_N = fused_reward(gains_NG, tuple(g.weight for g in dataset.gains))
    return pair_reward(fused_N, click_N, click_NA), pair_cost_nano(click_NA, level)


def value_pairs_by_taste(
    tastes: Tastes, memory: JourneyMemory, moment: Moment, model: Method, level: ChannelLevel, dataset: Dataset
) -> tuple[Floats, Ints]:
    """[N, A]: expected reward and cost (nano) of every pair by the taste filter; all clicks have the log's gains."""
    click_NA = tastes.click(memory.record(moment.user_N), moment.at_ms_N)
    rates_1G = np.array([base_rates(model)])
    fused_1 = fused_reward(rates_1G, tuple(g.weight for g in dataset.gains))
    return pair_reward(fused_1, rates_1G[:, click_gain(dataset)], click_NA), pair_cost_nano(click_NA, level)


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """Algorithm 1 as printed: the top users by predicted reward, each in a channel drawn from an averaged policy.

    eta is the weight of the model's policy against the initial one (line 12). N is as many users as the round's budget
    is expected to pay for.
    """

    model: Method
    level: ChannelLevel
    eta: float = 0.5
    user_level: bool = True  # False: users at random

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        policy_NA, gains_NG = predict_moment(self.model, memory, moment, self.level)
        policy_NA = self.eta * policy_NA + (1 - self.eta) * self.level.initial_A
        channel_N = draw(policy_NA, rng)
        reward_N = fused_reward(gains_NG, self.model.spec.gain_weights)
        order = np.argsort(-reward_N, kind="stable") if self.user_level else rng.permutation(len(reward_N))
        return choose_affordable(moment, order, channel_N, self.level.mean_cost_A, budget)


def published_rule(model: Method, level: ChannelLevel) -> Published:
    """Algorithm 1 for any method: one that predicts no gains takes users at random."""
    return Published(model, level, user_level=GAINS in model.predicts)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The best (user, channel) pairs for the round's budget by expected reward: our own step beyond the paper.

    Pairs are valued by the taste filter, or, if tastes is None, by composed predictions of the model (pair_reward.py).
    """

    model: Method
    level: ChannelLevel
    dataset: Dataset
    tastes: Tastes | None = None
    kappa: float = KAPPA
    user_level: bool = True  # False: users at random, each in the channel with the most reward per cost

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        reward_NA, cost_NA = self._values(memory, moment)
        if self.user_level:
            return choose_pairs(moment, reward_NA, cost_NA, budget)
        channel_N = (reward_NA / np.maximum(cost_NA, 1)).argmax(axis=1)
        cost_N = np.take_along_axis(cost_NA, channel_N[:, None], axis=1)[:, 0]
        order = rng.permutation(len(channel_N))
        order = order[: affordable(cost_N[order], budget)]
        return Choice(moment.user_N[order], channel_N[order])

    def _values(self, memory: JourneyMemory, moment: Moment) -> tuple[Floats, Ints]:
        if self.tastes is not None:
            return value_pairs_by_taste(self.tastes, memory, moment, self.model, self.level, self.dataset)
        policy_NA, gains_NG = predict_moment(self.model, memory, moment, self.level)
        return value_pairs(policy_NA, gains_NG, memory, moment, self.level, self.dataset, self.kappa)


@dataclass(frozen=True, slots=True, eq=False)
class RecordPairs:
    """Control: the knapsack of `Pairs` and its composition, with the log's base rates in place of predictions.

    Users differ only by their own record in each channel, channels by the channel level.
    """

    model: Method  # only its initial policy is used
    level: ChannelLevel
    dataset: Dataset

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        initial, users = self.model.initial_policy, len(moment.user_N)
        policy_NA, gains_NG = np.tile(initial.channel_shares, (users, 1)), np.tile(base_rates(self.model), (users, 1))
        values = value_pairs(policy_NA, gains_NG, memory, moment, self.level, self.dataset)
        return choose_pairs(moment, *values, budget)


@dataclass(frozen=True, slots=True, eq=False)
class AtRandom:
    """Users in random order, in channels drawn with equal probability: the result of a budget without knowledge."""

    level: ChannelLevel

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        channel_N = rng.integers(0, len(self.level.channels), len(moment.user_N))
        return choose_affordable(moment, rng.permutation(len(channel_N)), channel_N, self.level.mean_cost_A, budget)


def choose_pairs(moment: Moment, reward_NA: Floats, cost_nano_NA: Ints, budget: int) -> Choice:
    """The best pairs within the budget, in descending order of reward per cost."""
    plan = best_pairs(reward_NA, cost_nano_NA, budget)
    rows = np.flatnonzero(plan.channel_U != NO_CHANNEL)
    channel = plan.channel_U[rows]
    order = np.argsort(-reward_NA[rows, channel] / np.maximum(cost_nano_NA[rows, channel], 1), kind="stable")
    return Choice(moment.user_N[rows[order]], channel[order])


def explore(
    memory: JourneyMemory, moment: Moment, level: ChannelLevel, budget: int, rng: np.random.Generator
) -> Choice:
    """Line 2 of algorithm 1: the users whose journey is too short for the model, in channels of the initial policy.

    In random order, so that a budget that does not cover all users does not prefer those with low numbers.
    """
    short = np.flatnonzero(memory.exposures_UA[moment.user_N].sum(axis=1) < MIN_JOURNEY)
    channel_N = draw(np.tile(level.initial_A, (len(moment.user_N), 1)), rng)
    return choose_affordable(moment, rng.permutation(short), channel_N, level.mean_cost_A, budget)


def choose_affordable(moment: Moment, order: Ints, channel_N: Ints, cost_nano_A: Ints, budget: int) -> Choice:
    """The first users in this order whose expected costs the budget covers together."""
    order = order[: affordable(cost_nano_A[channel_N[order]], budget)]
    return Choice(moment.user_N[order], channel_N[order])


def draw(policy_NA: Floats, rng: np.random.Generator) -> Ints:
    """[N]: a channel drawn from each row. Rounding errors count for the last channel."""
    passed_NA = np.cumsum(policy_NA[:, :-1], axis=1) <= rng.random(len(policy_NA))[:, None]
    channel_N: Ints = passed_NA.sum(axis=1)
    return channel_N

"""The strategies that MTORL is compared with, at the same budget and by the same procedure.

Shapes: N users of the moment, A actions (channels), G gains.
"""

from dataclasses import dataclass

import numpy as np

from mtorl_model.budget.environment import Moment
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.pair_reward import pair_cost_nano
from mtorl_model.budget.strategy import Choice, choose_affordable, choose_pairs, predict_moment, value_pairs
from simulation.learning import Learned, add_channel, last_step_features
from simulation.simulator import DATASET, WEIGHTS, Simulator


@dataclass(frozen=True, eq=False)
class Popularity:
    """The most frequent channel of the log, for users in random order."""

    learned: Learned

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        channel_N = np.full(len(moment.user_N), self.learned.model.initial_policy.most_popular)
        order = rng.permutation(len(channel_N))
        return choose_affordable(moment, order, channel_N, self.learned.level.mean_cost_A, budget)


@dataclass(frozen=True, eq=False)
class BoostingRanking:
    """The users with the highest reward by gradient boosting on the model's inputs, in the channel that it predicts."""

    learned: Learned

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        features_NF = last_step_features(memory.windows(moment))
        policy_NA, gains_NG = self.learned.boosting.predict_features(features_NF).policy_and_gains
        reward_N = sum(weight * gains_NG[:, k] for k, weight in enumerate(WEIGHTS))
        channel_N = policy_NA.argmax(axis=1)
        order = np.argsort(-reward_N, kind="stable")
        return choose_affordable(moment, order, channel_N, self.learned.level.mean_cost_A, budget)


@dataclass(frozen=True, eq=False)
class BoostingGainPairs:
    """Control: composition and knapsack of `Pairs`, with gains that gradient boosting predicts."""

    learned: Learned

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        learned = self.learned
        features_NF = last_step_features(memory.windows(moment))
        _, gains_NG = learned.boosting.predict_features(features_NF).policy_and_gains
        policy_NA, _ = predict_moment(learned.model, memory, moment, learned.level)
        values = value_pairs(policy_NA, gains_NG, memory, moment, learned.level, DATASET)
        return choose_pairs(moment, *values, budget)


@dataclass(frozen=True, eq=False)
class BoostingPairs:
    """The best pairs by gradient boosting that has the channel as an input and predicts every pair."""

    learned: Learned

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        features_NF = last_step_features(memory.windows(moment))
        actions = len(self.learned.spec.channels)
        inputs = [add_channel(features_NF, a, actions) for a in range(actions)]
        gains_GNA = np.stack([
            np.stack([model.predict_proba(input_NF)[:, 1] for input_NF in inputs], axis=1)
            for model in self.learned.pair_boosting
        ])  # fmt: skip
        reward_NA = np.tensordot(WEIGHTS, gains_GNA, axes=1) / WEIGHTS.sum()
        return choose_pairs(moment, reward_NA, pair_cost_nano(gains_GNA[0], self.learned.level), budget)


@dataclass(frozen=True, eq=False)
class Oracle:
    """Knows the true probabilities and costs of every pair at this moment, but not the future."""

    simulator: Simulator

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        return choose_pairs(moment, self.simulator.reward(), self.simulator.cost_nano(), budget)

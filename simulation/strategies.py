"""What MTORL is compared with, at the same budget and by the same procedure.

Shapes: N users of the moment, A actions (channels), G gains.
"""

from dataclasses import dataclass

import numpy as np

from mtorl_model.budget.environment import Moment
from mtorl_model.budget.journal import Choice
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.pair_reward import pair_cost_nano
from mtorl_model.budget.strategy import first_that_fit, pairs_for
from simulation.learning import Learned, step_features, with_channel
from simulation.simulator import WEIGHTS, Simulator


@dataclass(frozen=True, eq=False)
class Popularity:
    """The channel shown most in the log, to users in random order."""

    learned: Learned

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        channel_N = np.full(len(moment.user_N), self.learned.artifact.initial_policy.most_popular)
        return first_that_fit(
            moment, rng.permutation(len(channel_N)), channel_N, self.learned.level.mean_cost_A, budget
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class BoostingRanking:
    """The users of highest reward by gradient boosting on the model's inputs, in the channel it expects next."""

    learned: Learned

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        features_NF = step_features(memory.windows(moment))
        boosting = self.learned.boosting
        wish_N = sum(weight * boosting.predict_gain(k, features_NF) for k, weight in enumerate(WEIGHTS))
        channel_N = boosting.guess_channel(features_NF)
        order = np.argsort(-wish_N, kind="stable")
        return first_that_fit(moment, order, channel_N, self.learned.level.mean_cost_A, budget)


@dataclass(frozen=True, eq=False)
class BoostingPairs:
    """Gradient boosting that also reads the channel, asked about every pair; the knapsack buys the best."""

    learned: Learned

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        features_NF = step_features(memory.windows(moment))
        actions = len(self.learned.spec.channels)
        gains_GNA = np.stack([
            np.stack([model.predict_proba(with_channel(features_NF, a, actions))[:, 1] for a in range(actions)], axis=1)
            for model in self.learned.pair_boosting
        ])  # fmt: skip
        reward_NA = np.tensordot(WEIGHTS, gains_GNA, axes=1) / WEIGHTS.sum()
        return pairs_for(moment, reward_NA, pair_cost_nano(gains_GNA[0], self.learned.level), budget)


@dataclass(frozen=True, eq=False)
class Oracle:
    """Knows every pair's true chances and costs at this moment, though not what is to come."""

    simulator: Simulator

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        return pairs_for(moment, self.simulator.reward(), self.simulator.cost_nano(), budget)

"""What MTORL is compared with, at the same budget and by the same procedure.

Shapes: N users of the moment, U users, A actions (channels), G gains, X dimensions of a user's mind.
"""

from dataclasses import dataclass

import numpy as np

from mtorl_model.budget.environment import Moment
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.pair_reward import pair_cost_nano
from mtorl_model.budget.strategy import Choice, choose_affordable, choose_pairs, predict_moment, value_pairs
from mtorl_model.data.money import Floats, Ints, cost_nano
from simulation.learning import Learned, step_features, with_channel
from simulation.simulator import DATASET, HOURS, PAST_ROUNDS, WEIGHTS, Simulator


@dataclass(frozen=True, eq=False)
class Popularity:
    """The channel shown most in the log, to users in random order."""

    learned: Learned

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        channel_N = np.full(len(moment.user_N), self.learned.model.initial_policy.most_popular)
        return choose_affordable(
            moment, rng.permutation(len(channel_N)), channel_N, self.learned.level.mean_cost_A, budget
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class BoostingRanking:
    """The users of highest reward by gradient boosting on the model's inputs, in the channel it expects next."""

    learned: Learned

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        features_NF = step_features(memory.windows(moment))
        policy_NA, gains_NG = self.learned.boosting.predict_features(features_NF)
        wish_N = sum(weight * gains_NG[:, k] for k, weight in enumerate(WEIGHTS))
        channel_N = policy_NA.argmax(axis=1)
        order = np.argsort(-wish_N, kind="stable")
        return choose_affordable(moment, order, channel_N, self.learned.level.mean_cost_A, budget)


@dataclass(frozen=True, eq=False)
class BoostingBeliefPairs:
    """Control: the composition and knapsack of `Pairs`, with the gains that boosting predicts in place of MTORL's."""

    learned: Learned

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        learned = self.learned
        features_NF = step_features(memory.windows(moment))
        gains_NG = learned.boosting.predict_features(features_NF).gains_XG
        policy_NA, _ = predict_moment(learned.model, memory, moment, learned.level)
        values = value_pairs(policy_NA, gains_NG, memory, moment, learned.level, DATASET)
        return choose_pairs(moment, *values, budget)


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
        return choose_pairs(moment, reward_NA, pair_cost_nano(gains_GNA[0], self.learned.level), budget)


class Informed:
    """Knows the world's equations and constants, but of its people only what they were shown and clicked.

    What no learner can pass without reading minds. A Kalman filter follows each user's mind, the lasting and the
    drifting interests (home, mood), whose logit of a click is linear; each click is taken in by one Newton step.
    """

    _NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)

    def __init__(self, simulator: Simulator) -> None:
        self._simulator, world = simulator, simulator.world
        self._world = world
        users, (actions, dimensions) = len(simulator.users), world.taste_CD.shape
        self._reads_AX = np.hstack([np.sqrt(world.home_share) * world.taste_CD,
                                    np.sqrt(1 - world.home_share) * world.taste_CD])  # fmt: skip
        self._mean_UX = np.zeros((users, 2 * dimensions))
        self._cov_UXX = np.tile(np.eye(2 * dimensions), (users, 1, 1))
        self._fatigue_UA = np.zeros((users, actions))
        self._mood = slice(dimensions, 2 * dimensions)
        self._events, self._round = 0, -PAST_ROUNDS

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        reward_UA, cost_UA = self.expect()
        return choose_pairs(moment, reward_UA, cost_UA, budget)

    def expect(self) -> tuple[Floats, Ints]:
        """[U, A]: expected reward and cost (nano) of every pair now, from all that has been shown so far."""
        now = self._simulator.round_number
        for number, user_N, channel_N, click_N in self._simulator.seen[self._events :]:
            self._pass_time(number - self._round)
            self._round = number
            self._take_in(user_N, channel_N, click_N)
        self._events = len(self._simulator.seen)
        self._pass_time(now - self._round)
        self._round = now
        world = self._world
        affinity_UA = self._mean_UX @ self._reads_AX.T
        spread_UA = np.sqrt(np.einsum("ax,uxy,ay->ua", self._reads_AX, self._cov_UXX, self._reads_AX))
        click_UA, conversion_UA = np.zeros_like(affinity_UA), np.zeros_like(affinity_UA)
        for node, weight in zip(self._NODES, self._WEIGHTS / self._WEIGHTS.sum(), strict=True):
            at_UA = affinity_UA + node * spread_UA
            chance_UA = _sigmoid(world.click_bias_C + at_UA - world.fatigue_weight * self._fatigue_UA)
            click_UA += weight * chance_UA
            then_UA = _sigmoid(world.conversion_bias_C + world.conversion_slope * at_UA)
            conversion_UA += weight * chance_UA * then_UA
        reward_UA = (WEIGHTS[0] * click_UA + WEIGHTS[1] * conversion_UA) / WEIGHTS.sum()
        return reward_UA, cost_nano(self._simulator.cost_C * (1 + world.click_surcharge * click_UA))

    def _pass_time(self, rounds: int) -> None:
        elapsed_s = rounds * HOURS * 3600.0
        rho = float(np.exp(-elapsed_s / self._world.drift_memory_s))
        self._mean_UX[:, self._mood] *= rho
        self._cov_UXX[:, self._mood, :] *= rho
        self._cov_UXX[:, :, self._mood] *= rho
        at = np.arange(self._mood.start, self._mood.stop)
        self._cov_UXX[:, at, at] += 1 - rho**2
        self._fatigue_UA *= np.exp(-elapsed_s / self._world.fatigue_memory_s)

    def _take_in(self, user_N: Ints, channel_N: Ints, click_N: Ints) -> None:
        reads_NX, cov_NXX = self._reads_AX[channel_N], self._cov_UXX[user_N]
        tired_N = self._world.fatigue_weight * self._fatigue_UA[user_N, channel_N]
        logit_N = self._world.click_bias_C[channel_N] + (self._mean_UX[user_N] * reads_NX).sum(axis=1) - tired_N
        chance_N = _sigmoid(logit_N)
        steep_N = chance_N * (1 - chance_N)
        moves_NX = np.einsum("nxy,ny->nx", cov_NXX, reads_NX)
        gain_NX = moves_NX / (1 + steep_N * (moves_NX * reads_NX).sum(axis=1))[:, None]
        self._mean_UX[user_N] += gain_NX * (click_N - chance_N)[:, None]
        self._cov_UXX[user_N] -= steep_N[:, None, None] * gain_NX[:, :, None] * moves_NX[:, None, :]
        self._fatigue_UA[user_N, channel_N] += 1.0


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-x))


@dataclass(frozen=True, eq=False)
class Oracle:
    """Knows every pair's true chances and costs at this moment, though not what is to come."""

    simulator: Simulator

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        return choose_pairs(moment, self.simulator.reward(), self.simulator.cost_nano(), budget)

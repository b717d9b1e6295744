"""A reference strategy that knows the world's equations and constants, but of its users only exposures and clicks.

It is close to the best that a learner without access to the users' interests can reach.

Shapes: U users, N of them, A actions (channels), X dimensions of a user's interests.
"""

import numpy as np

from features.logistic import sigmoid
from mtorl_model.budget.environment import Moment
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.strategy import Choice, choose_pairs
from mtorl_model.data.money import Floats, Ints, cost_nano
from simulation.simulator import HOURS, PAST_ROUNDS, WEIGHTS, ObservedClicks, Simulator


class Informed:
    """Tracks each user's interests with a Kalman filter, and buys the pairs with the highest expected reward.

    The state of the filter is the lasting and the drifting part of the interests (home, mood), in which the logit of a
    click is linear. Each click updates it by one Newton step.
    """

    _NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)

    def __init__(self, simulator: Simulator) -> None:
        self._simulator, world = simulator, simulator.world
        self._world = world
        users, (actions, dimensions) = len(simulator.users), world.taste_CD.shape
        home_AX, mood_AX = np.sqrt(world.home_share) * world.taste_CD, np.sqrt(1 - world.home_share) * world.taste_CD
        self._observation_AX = np.hstack([home_AX, mood_AX])
        self._mean_UX = np.zeros((users, 2 * dimensions))
        self._cov_UXX = np.tile(np.eye(2 * dimensions), (users, 1, 1))
        self._fatigue_UA = np.zeros((users, actions))
        self._mood = slice(dimensions, 2 * dimensions)
        self._processed, self._round = 0, -PAST_ROUNDS

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        reward_UA, cost_UA = self.expect()
        return choose_pairs(moment, reward_UA, cost_UA, budget)

    def expect(self) -> tuple[Floats, Ints]:
        """[U, A]: expected reward and cost (nano) of every pair now, given all clicks so far."""
        for clicks in self._simulator.observed[self._processed :]:
            self._advance_to(clicks.round_number)
            self._update(clicks)
        self._processed = len(self._simulator.observed)
        self._advance_to(self._simulator.round_number)
        world = self._world
        affinity_UA = self._mean_UX @ self._observation_AX.T
        spread_UA = np.sqrt(np.einsum("ax,uxy,ay->ua", self._observation_AX, self._cov_UXX, self._observation_AX))
        click_UA, conversion_UA = np.zeros_like(affinity_UA), np.zeros_like(affinity_UA)
        for node, weight in zip(self._NODES, self._WEIGHTS / self._WEIGHTS.sum(), strict=True):
            node_affinity_UA = affinity_UA + node * spread_UA
            node_click_UA = sigmoid(world.click_bias_C + node_affinity_UA - world.fatigue_weight * self._fatigue_UA)
            click_UA += weight * node_click_UA
            conversion_given_click_UA = sigmoid(world.conversion_bias_C + world.conversion_slope * node_affinity_UA)
            conversion_UA += weight * node_click_UA * conversion_given_click_UA
        reward_UA = (WEIGHTS[0] * click_UA + WEIGHTS[1] * conversion_UA) / WEIGHTS.sum()
        return reward_UA, cost_nano(self._simulator.cost_C * (1 + world.click_surcharge * click_UA))

    def _advance_to(self, round_number: int) -> None:
        """The filter's prediction step: interests drift and fatigue fades until the start of the round."""
        elapsed_s = (round_number - self._round) * HOURS * 3600.0
        self._round = round_number
        rho = float(np.exp(-elapsed_s / self._world.drift_memory_s))
        self._mean_UX[:, self._mood] *= rho
        self._cov_UXX[:, self._mood, :] *= rho
        self._cov_UXX[:, :, self._mood] *= rho
        diagonal = np.arange(self._mood.start, self._mood.stop)
        self._cov_UXX[:, diagonal, diagonal] += 1 - rho**2
        self._fatigue_UA *= np.exp(-elapsed_s / self._world.fatigue_memory_s)

    def _update(self, clicks: ObservedClicks) -> None:
        """The filter's update step: one Newton step on the log-likelihood of each click."""
        _, user_N, channel_N, click_N = clicks
        observation_NX, cov_NXX = self._observation_AX[channel_N], self._cov_UXX[user_N]
        fatigue_N = self._world.fatigue_weight * self._fatigue_UA[user_N, channel_N]
        affinity_N = (self._mean_UX[user_N] * observation_NX).sum(axis=1)
        logit_N = self._world.click_bias_C[channel_N] + affinity_N - fatigue_N
        probability_N = sigmoid(logit_N)
        variance_N = probability_N * (1 - probability_N)
        direction_NX = np.einsum("nxy,ny->nx", cov_NXX, observation_NX)
        gain_NX = direction_NX / (1 + variance_N * (direction_NX * observation_NX).sum(axis=1))[:, None]
        self._mean_UX[user_N] += gain_NX * (click_N - probability_N)[:, None]
        self._cov_UXX[user_N] -= variance_N[:, None, None] * gain_NX[:, :, None] * direction_NX[:, None, :]
        self._fatigue_UA[user_N, channel_N] += 1.0

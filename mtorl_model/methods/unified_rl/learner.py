"""The learner of UnifiedRL: an actor, and critics for each group of rewards (equations 4 to 6).

Shapes: B transitions, S state, D action, Q groups of rewards, M critics of a group, C = Q M critics in all.
"""

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.config import LOCAL, FusionConfig
from mtorl_model.methods.unified_rl.networks import Actor, Critics, Ensemble, LocalCritics
from mtorl_model.methods.unified_rl.offline_learner import Batch, OfflineLearner

Floats = npt.NDArray[np.float64]


class FusionLearner(OfflineLearner):
    """Learns a policy from logged sessions. The same config, transitions and previous actor give the same policy."""

    def __init__(self, config: FusionConfig, *, state: int, actions: int, groups: int, previous: Actor | None = None):
        """previous: the actor to start from, today's champion in progressive training; None: a new one."""
        self.box = Box(config.half_width, config.penalty_scale)
        self.groups = groups
        critics_class = LocalCritics if config.critic == LOCAL else Critics
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            actor = copy.deepcopy(previous) if previous else Actor(state, actions, config.hidden)
            critics = critics_class(groups * config.critics, state, actions, config.hidden)
        super().__init__(config, actor, critics, masks=groups * config.critics)

    def critic_loss(self, batch: Batch) -> Tensor:
        """The squared error to the targets of equation 6, over each critic's own part of the transitions."""
        value_CB = self._values(self.critics, batch.state_BS, batch.action_BD, batch.centre_BD)
        error_CB = (value_CB - self.targets(batch)).square()
        loss: Tensor = (error_CB * batch.learns_CB).sum() / batch.learns_CB.sum().clamp_min(1)
        return loss

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """[C, B]: r + gamma phi(mu'(s')) Q'(s', mu'(s')) (equation 6); r alone at a session's last step."""
        next_action_BD = self.target_actor(batch.next_state_BS)
        next_value_CB = self._values(self.target_critics, batch.next_state_BS, next_action_BD, batch.next_centre_BD)
        trust_B = self.box.trust(next_action_BD, batch.next_centre_BD) * batch.goes_on_B
        reward_CB = batch.reward_BQ.T.repeat_interleave(self.config.critics, dim=0)
        target_CB: Tensor = reward_CB + self.config.discount * trust_B * next_value_CB
        return target_CB

    def actor_loss(self, batch: Batch) -> Tensor:
        """Equation 4 with equal weights of the groups: minus the value, plus the penalty and the uncertainty."""
        action_BD = self.actor(batch.state_BS)
        value_CB = self._values(self.critics, batch.state_BS, action_BD, batch.centre_BD)
        value_QMB = value_CB.view(self.groups, self.config.critics, -1)
        value_B = value_QMB.mean(dim=1).sum(dim=0)
        uncertainty_B = value_QMB.std(dim=1, correction=0).sum(dim=0) if self.config.critics > 1 else 0.0
        loss: Tensor = (
            -value_B
            + self.config.box_penalty * self.box.penalty(action_BD, batch.centre_BD)
            + self.config.uncertainty * uncertainty_B
        ).mean()
        return loss

    @torch.no_grad()
    def values(self, state_NS: Floats, action_ND: Floats, centre_ND: Floats) -> Floats:
        """[Q, M, N]: the value of an action by each critic, in the unit of the rewards.

        centre_ND: the behaviour policy's action.
        """
        arrays = (torch.as_tensor(array, dtype=torch.float32) for array in (state_NS, action_ND, centre_ND))
        value_QMN = self._values(self.critics, *arrays).view(self.groups, self.config.critics, -1)
        values_QMN: Floats = value_QMN.double().numpy() * self.reward_scale
        return values_QMN

    def _values(self, critics: Ensemble, state_BS: Tensor, action_BD: Tensor, centre_BD: Tensor) -> Tensor:
        """[C, B]."""
        if self.config.critic == LOCAL:
            action_BD = (action_BD - centre_BD) / self.config.half_width
        value_CB: Tensor = critics(state_BS, action_BD)
        return value_CB

    def _start_at(self, mean_return_Q: Tensor) -> None:
        mean_C = mean_return_Q.repeat_interleave(self.config.critics)
        self.critics.start_at(mean_C)
        self.target_critics.start_at(mean_C)

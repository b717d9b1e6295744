"""Learners that UnifiedRL is compared with, on the same logged sessions and the same networks.

DDPG (Lillicrap et al. 2016), TD3+BC (Fujimoto and Gu 2021), CQL (Kumar et al. 2020, its variant CQL(H)) and IQL
(Kostrikov et al. 2022), for actions in [-1, 1]. The groups of rewards are summed: these methods know one reward.

Shapes: B transitions, S state, D action, C critics.
"""

import torch
from torch import Tensor, nn

from mtorl_model.methods.unified_rl.config import FusionConfig
from mtorl_model.methods.unified_rl.networks import Actor, Critics
from mtorl_model.methods.unified_rl.offline_learner import Batch, OfflineLearner


class OfflineBaseline(OfflineLearner):
    """Critics of the sum of the rewards, and an actor. A subclass has the losses."""

    critics_count = 2
    behaviour_weight = 2.5  # alpha of TD3+BC
    conservative_weight = 1.0  # alpha of CQL
    expectile = 0.7  # tau of IQL
    temperature = 3.0  # beta of IQL

    def __init__(self, config: FusionConfig, *, state: int, actions: int):
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            actor = Actor(state, actions, config.hidden)
            critics = Critics(self.critics_count, state, actions, config.hidden)
        super().__init__(config, actor, critics)
        self._generator = torch.Generator().manual_seed(config.seed)

    def _start_at(self, mean_return_Q: Tensor) -> None:
        for critics in (self.critics, self.target_critics):
            critics.start_at(mean_return_Q.sum())

    def _target(self, batch: Batch, next_value_B: Tensor) -> Tensor:
        reward_B = batch.reward_BQ.sum(dim=1)
        target_B: Tensor = reward_B + self.config.discount * batch.goes_on_B * next_value_B
        return target_B

    def _squared_error(self, batch: Batch, target_B: Tensor) -> Tensor:
        loss: Tensor = (self.critics(batch.state_BS, batch.action_BD) - target_B).square().mean()
        return loss


class DDPG(OfflineBaseline):
    """The actor maximises one critic, whose target is the critic of the target actor's action."""

    critics_count = 1

    def critic_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            next_action_BD = self.target_actor(batch.next_state_BS)
            next_value_B = self.target_critics(batch.next_state_BS, next_action_BD).amin(dim=0)
        return self._squared_error(batch, self._target(batch, next_value_B))

    def actor_loss(self, batch: Batch) -> Tensor:
        value_B: Tensor = self.critics(batch.state_BS, self.actor(batch.state_BS))[0]
        return -value_B.mean()


class TD3BC(DDPG):
    """TD3 with a penalty for actions that differ from the logged ones (its equation 5)."""

    critics_count = 2
    _noise, _largest_noise = 0.2, 0.5  # of the target action, as in TD3

    def critic_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            noise_BD = self._noise * torch.randn(batch.action_BD.shape, generator=self._generator)
            noise_BD = noise_BD.clamp(-self._largest_noise, self._largest_noise)
            next_action_BD = (self.target_actor(batch.next_state_BS) + noise_BD).clamp(-1.0, 1.0)
            next_value_B = self.target_critics(batch.next_state_BS, next_action_BD).amin(dim=0)
        return self._squared_error(batch, self._target(batch, next_value_B))

    def actor_loss(self, batch: Batch) -> Tensor:
        action_BD = self.actor(batch.state_BS)
        value_B = self.critics(batch.state_BS, action_BD)[0]
        weight = self.behaviour_weight / value_B.abs().mean().detach().clamp_min(1e-6)
        loss: Tensor = -weight * value_B.mean() + (action_BD - batch.action_BD).square().mean()
        return loss


class CQL(TD3BC):
    """Values of actions that were not logged are lowered: CQL(H), equation 4 of the paper, with uniform proposals."""

    _proposals = 10

    def critic_loss(self, batch: Batch) -> Tensor:
        proposals = [
            torch.rand(batch.action_BD.shape, generator=self._generator) * 2.0 - 1.0 for _ in range(self._proposals)
        ] + [self.actor(batch.state_BS).detach()]
        proposed_PCB = torch.stack([self.critics(batch.state_BS, action_BD) for action_BD in proposals])
        logged_CB = self.critics(batch.state_BS, batch.action_BD)
        conservative = (proposed_PCB.logsumexp(dim=0) - logged_CB).mean()
        loss: Tensor = super().critic_loss(batch) + self.conservative_weight * conservative
        return loss

    def actor_loss(self, batch: Batch) -> Tensor:
        loss: Tensor = -self.critics(batch.state_BS, self.actor(batch.state_BS)).amin(dim=0).mean()
        return loss


class IQL(OfflineBaseline):
    """Values from logged actions alone (its equations 5 and 6); the actor imitates those with an advantage (7)."""

    _largest_weight = 100.0

    def __init__(self, config: FusionConfig, *, state: int, actions: int):
        super().__init__(config, state=state, actions=actions)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.value = Critics(1, state, 0, config.hidden)  # V, of a state without an action

    def _start_at(self, mean_return_Q: Tensor) -> None:
        super()._start_at(mean_return_Q)
        self.value.start_at(mean_return_Q.sum())

    def _critic_parameters(self) -> list[nn.Parameter]:
        return [*self.critics.parameters(), *self.value.parameters()]

    def critic_loss(self, batch: Batch) -> Tensor:
        no_action_B0 = batch.action_BD[:, :0]
        with torch.no_grad():
            logged_B = self.target_critics(batch.state_BS, batch.action_BD).amin(dim=0)
            next_value_B = self.value(batch.next_state_BS, no_action_B0)[0]
        difference_B = logged_B - self.value(batch.state_BS, no_action_B0)[0]
        weight_B = torch.where(difference_B > 0, self.expectile, 1.0 - self.expectile)
        value_loss = (weight_B * difference_B.square()).mean()
        loss: Tensor = value_loss + self._squared_error(batch, self._target(batch, next_value_B))
        return loss

    def actor_loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            logged_B = self.target_critics(batch.state_BS, batch.action_BD).amin(dim=0)
            advantage_B = logged_B - self.value(batch.state_BS, batch.action_BD[:, :0])[0]
            weight_B = (self.temperature * advantage_B).exp().clamp_max(self._largest_weight)
        error_B = (self.actor(batch.state_BS) - batch.action_BD).square().sum(dim=1)
        loss: Tensor = (weight_B * error_B).mean()
        return loss


OFFLINE_BASELINES = {"ddpg": DDPG, "td3_bc": TD3BC, "cql": CQL, "iql": IQL}

"""Learners that UnifiedRL is compared with, on the same logged sessions and the same networks.

DDPG (Lillicrap et al. 2016), TD3+BC (Fujimoto and Gu 2021), CQL (Kumar et al. 2020, its variant CQL(H)) and IQL
(Kostrikov et al. 2022), for actions in [-1, 1]. The groups of rewards are summed: these methods know one reward.

Shapes: B transitions, S state, D action, C critics.
"""

import copy
from abc import abstractmethod

import torch
from torch import Tensor, nn

from mtorl_model.methods.common.soft_update import move_towards
from mtorl_model.methods.unified_rl.config import FusionConfig
from mtorl_model.methods.unified_rl.learner import Batch, batches
from mtorl_model.methods.unified_rl.networks import Actor, Critics
from mtorl_model.methods.unified_rl.policy import ActorPolicy
from mtorl_model.methods.unified_rl.transitions import Transitions


class OfflineBaseline(ActorPolicy):
    """Two critics and an actor, with soft targets. A subclass has the losses."""

    critics_count = 2
    behaviour_weight = 2.5  # alpha of TD3+BC
    conservative_weight = 1.0  # alpha of CQL
    expectile = 0.7  # tau of IQL
    temperature = 3.0  # beta of IQL

    def __init__(self, config: FusionConfig, *, state: int, actions: int):
        self.config = config
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.actor = Actor(state, actions, config.hidden)
            self.critics = Critics(self.critics_count, state, actions, config.hidden)
            self.value = Critics(1, state, 0, config.hidden)  # V of IQL
        self.target_actor, self.target_critics = copy.deepcopy(self.actor), copy.deepcopy(self.critics)

    def fit(self, log: Transitions) -> None:
        """Learn from the transitions."""
        config = self.config
        return_N = log.returns(config.discount).sum(axis=1)
        scale = float(return_N.std()) or 1.0
        for critics in (self.critics, self.target_critics, self.value):
            critics.start_at(torch.full((len(critics.biases[-1]),), return_N.mean() / scale))
        networks = nn.ModuleList([self.actor, self.critics, self.value])
        optimiser = torch.optim.Adam(networks.parameters(), lr=config.learning_rate, fused=True)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
        generator = torch.Generator().manual_seed(config.seed)
        for step, batch in enumerate(batches(log, config, critics=1, reward_scale=scale), start=1):
            optimiser.zero_grad(set_to_none=True)
            self.critic_loss(batch, generator).backward()  # type: ignore[no-untyped-call]
            # The actor's loss changes the actor alone, although it reads the critics.
            self.actor_loss(batch).backward(inputs=list(self.actor.parameters()))  # type: ignore[no-untyped-call]
            optimiser.step()
            scheduler.step()
            if step % config.target_every == 0:
                move_towards(self.target_actor, self.actor, config.target_share)
                move_towards(self.target_critics, self.critics, config.target_share)

    @abstractmethod
    def critic_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The loss of the critics."""

    @abstractmethod
    def actor_loss(self, batch: Batch) -> Tensor:
        """The loss of the actor."""

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

    def critic_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
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

    def critic_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            noise_BD = self._noise * torch.randn(batch.action_BD.shape, generator=generator)
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

    def critic_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        proposals = [
            torch.rand(batch.action_BD.shape, generator=generator) * 2.0 - 1.0 for _ in range(self._proposals)
        ] + [self.actor(batch.state_BS).detach()]
        proposed_PCB = torch.stack([self.critics(batch.state_BS, action_BD) for action_BD in proposals])
        logged_CB = self.critics(batch.state_BS, batch.action_BD)
        conservative = (proposed_PCB.logsumexp(dim=0) - logged_CB).mean()
        loss: Tensor = super().critic_loss(batch, generator) + self.conservative_weight * conservative
        return loss

    def actor_loss(self, batch: Batch) -> Tensor:
        loss: Tensor = -self.critics(batch.state_BS, self.actor(batch.state_BS)).amin(dim=0).mean()
        return loss


class IQL(OfflineBaseline):
    """Values from logged actions alone (its equations 5 and 6); the actor imitates those with an advantage (7)."""

    _largest_weight = 100.0

    def critic_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
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

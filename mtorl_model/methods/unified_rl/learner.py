"""The learner of UnifiedRL: an actor, and critics for each group of rewards (equations 4 to 6).

Shapes: B transitions, S state, D action, Q groups of rewards, M critics of a group, C = Q M critics in all.
"""

import copy
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtorl_model.methods.common.soft_update import move_towards
from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.config import FusionConfig
from mtorl_model.methods.unified_rl.networks import Actor, Critics
from mtorl_model.methods.unified_rl.policy import ActorPolicy
from mtorl_model.methods.unified_rl.transitions import Transitions

Floats = npt.NDArray[np.float64]


class FusionLearner(ActorPolicy):
    """Learns a policy from logged sessions. The same config, transitions and previous actor give the same policy."""

    def __init__(self, config: FusionConfig, *, state: int, actions: int, groups: int, previous: Actor | None = None):
        """previous: the actor to start from, today's champion in progressive training; None: a new one."""
        self.config = config
        self.box = Box(config.half_width, config.penalty_scale)
        self.groups = groups
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.actor = copy.deepcopy(previous) if previous else Actor(state, actions, config.hidden)
            self.critics = Critics(groups * config.critics, state, actions, config.hidden)
        self.target_actor, self.target_critics = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        # Rewards are divided by this number, so that the weights of the penalties mean the same for every unit.
        self.reward_scale = 1.0

    def fit(self, log: Transitions, *, learn_actor: bool = True) -> None:
        """Learn from the transitions. learn_actor: False learns the values of the present actor."""
        config = self.config
        return_NQ = log.returns(config.discount)
        self.reward_scale = float(return_NQ.std(axis=0).mean()) or 1.0
        mean_C = (return_NQ.mean(axis=0) / self.reward_scale).repeat(config.critics)
        for ensemble in (self.critics, self.target_critics):
            ensemble.start_at(torch.as_tensor(mean_C))
        actor_optimiser = torch.optim.Adam(self.actor.parameters(), lr=config.learning_rate, fused=True)
        critic_optimiser = torch.optim.Adam(self.critics.parameters(), lr=config.learning_rate, fused=True)
        # The step size falls to 0: at the box's bound the objective has a kink, around which the actor would swing.
        actor_scheduler, critic_scheduler = (
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
            for optimiser in (actor_optimiser, critic_optimiser)
        )
        critics = self.groups * config.critics
        for step, batch in enumerate(batches(log, config, critics=critics, reward_scale=self.reward_scale), start=1):
            loss = self.critic_loss(batch)
            critic_optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            critic_optimiser.step()
            if learn_actor:
                loss = self.actor_loss(batch.state_BS, batch.centre_BD)
                actor_optimiser.zero_grad(set_to_none=True)
                loss.backward(inputs=list(self.actor.parameters()))  # type: ignore[no-untyped-call]
                actor_optimiser.step()
                actor_scheduler.step()
            critic_scheduler.step()
            if step % config.target_every == 0:
                move_towards(self.target_actor, self.actor, config.target_share)
                move_towards(self.target_critics, self.critics, config.target_share)

    def critic_loss(self, batch: "Batch") -> Tensor:
        """The squared error to the targets of equation 6, over each critic's own part of the transitions."""
        value_CB = self.critics(batch.state_BS, batch.action_BD)
        error_CB = (value_CB - self.targets(batch)).square()
        loss: Tensor = (error_CB * batch.learns_CB).sum() / batch.learns_CB.sum().clamp_min(1)
        return loss

    @torch.no_grad()
    def targets(self, batch: "Batch") -> Tensor:
        """[C, B]: r + gamma phi(mu'(s')) Q'(s', mu'(s')) (equation 6); r alone at a session's last step."""
        next_action_BD = self.target_actor(batch.next_state_BS)
        next_value_CB = self.target_critics(batch.next_state_BS, next_action_BD)
        trust_B = self.box.trust(next_action_BD, batch.next_centre_BD) * batch.goes_on_B
        reward_CB = batch.reward_BQ.T.repeat_interleave(self.config.critics, dim=0)
        target_CB: Tensor = reward_CB + self.config.discount * trust_B * next_value_CB
        return target_CB

    def actor_loss(self, state_BS: Tensor, centre_BD: Tensor) -> Tensor:
        """Equation 4 with equal weights of the groups: minus the value, plus the penalty and the uncertainty."""
        action_BD = self.actor(state_BS)
        value_QMB = self.critics(state_BS, action_BD).unflatten(0, (self.groups, self.config.critics))
        value_B = value_QMB.mean(dim=1).sum(dim=0)
        uncertainty_B = value_QMB.std(dim=1, correction=0).sum(dim=0) if self.config.critics > 1 else 0.0
        loss: Tensor = (
            -value_B
            + self.config.box_penalty * self.box.penalty(action_BD, centre_BD)
            + self.config.uncertainty * uncertainty_B
        ).mean()
        return loss

    @torch.no_grad()
    def values(self, state_NS: Floats, action_ND: Floats) -> Floats:
        """[Q, M, N]: the value of an action by each critic, in the unit of the rewards."""
        state, action = (torch.as_tensor(array, dtype=torch.float32) for array in (state_NS, action_ND))
        value_QMN = self.critics(state, action).unflatten(0, (self.groups, self.config.critics))
        values_QMN: Floats = value_QMN.double().numpy() * self.reward_scale
        return values_QMN


class LogTensors:
    """All transitions as tensors, with the part of them that each critic learns from."""

    def __init__(self, log: Transitions, config: FusionConfig, critics: int, reward_scale: float):
        self.state_NS, self.action_ND, self.reward_NQ, self.centre_ND = (
            torch.as_tensor(array, dtype=torch.float32)
            for array in (log.state_NS, log.action_ND, log.reward_NQ / reward_scale, log.centre_ND)
        )
        self.next_N = torch.as_tensor(log.next_N)
        generator = torch.Generator().manual_seed(config.seed)
        share = config.bootstrap_share if critics > 1 else 1.0
        self.learns_CN = torch.rand(critics, len(log), generator=generator) < share


class Batch:
    """Transitions as tensors.

    goes_on_B: 0 at a session's last step, else 1. learns_CB: 1 where a critic learns from the transition, else 0.
    """

    def __init__(self, log: LogTensors, rows_B: Tensor):
        self.state_BS, self.action_BD = log.state_NS[rows_B], log.action_ND[rows_B]
        self.reward_BQ, self.centre_BD = log.reward_NQ[rows_B], log.centre_ND[rows_B]
        next_B = log.next_N[rows_B]
        self.goes_on_B = (next_B >= 0).float()
        self.next_state_BS, self.next_centre_BD = log.state_NS[next_B], log.centre_ND[next_B]
        self.learns_CB = log.learns_CN[:, rows_B].float()


def batches(log: Transitions, config: FusionConfig, *, critics: int, reward_scale: float) -> Iterator[Batch]:
    """config.steps batches drawn with replacement. Rewards are divided by reward_scale."""
    tensors = LogTensors(log, config, critics, reward_scale)
    generator = torch.Generator().manual_seed(config.seed + 1)
    for _ in range(config.steps):
        yield Batch(tensors, torch.randint(len(log), (config.batch,), generator=generator))

"""The loop by which an actor and its critics learn from logged sessions. A learner adds the losses.

Shapes: B transitions, S state, D action, Q groups of rewards, C critics.
"""

import copy
from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from mtorl_model.methods.common.soft_update import move_towards
from mtorl_model.methods.unified_rl.config import FusionConfig
from mtorl_model.methods.unified_rl.networks import Actor, Ensemble
from mtorl_model.methods.unified_rl.policy import ActorPolicy
from mtorl_model.methods.unified_rl.transitions import Transitions

Floats = npt.NDArray[np.float64]


class OfflineLearner(ActorPolicy):
    """An actor, critics, and targets that follow them. The same config and transitions give the same policy."""

    def __init__(self, config: FusionConfig, actor: Actor, critics: Ensemble, *, masks: int = 1):
        """masks: for how many critics a part of the transitions is drawn, if not for all together."""
        self.config = config
        self.actor, self.critics = actor, critics
        self.target_actor, self.target_critics = copy.deepcopy(actor), copy.deepcopy(critics)
        self._masks = masks
        # Rewards are divided by this number, so that the weights of the losses mean the same for every unit.
        self.reward_scale = 1.0

    def fit(self, log: Transitions, *, learn_actor: bool = True) -> None:
        """Learn from the transitions. learn_actor: False learns the values of the present actor."""
        config = self.config
        return_NQ = log.returns(config.discount)
        self.reward_scale = float(return_NQ.sum(axis=1).std()) or 1.0
        self._start_at(torch.as_tensor(return_NQ.mean(axis=0) / self.reward_scale))
        critic = _FallingAdam(self._critic_parameters(), config)
        actor = _FallingAdam(list(self.actor.parameters()), config)
        for step, batch in enumerate(batches(log, config, masks=self._masks, reward_scale=self.reward_scale), start=1):
            critic.step(self.critic_loss(batch))
            if learn_actor:
                actor.step(self.actor_loss(batch))
            if step % config.target_every == 0:
                move_towards(self.target_actor, self.actor, config.target_share)
                move_towards(self.target_critics, self.critics, config.target_share)

    @abstractmethod
    def critic_loss(self, batch: "Batch") -> Tensor:
        """The loss of the critics."""

    @abstractmethod
    def actor_loss(self, batch: "Batch") -> Tensor:
        """The loss of the actor."""

    @abstractmethod
    def _start_at(self, mean_return_Q: Tensor) -> None:
        """Let all values start near this mean."""

    def _critic_parameters(self) -> list[Parameter]:
        return list(self.critics.parameters())


class _FallingAdam:
    """Adam with a step size that falls to 0: around the kink at the box's bound the actor would swing."""

    def __init__(self, parameters: Sequence[Parameter], config: FusionConfig):
        self._parameters = list(parameters)
        self._optimiser: Optimizer = torch.optim.Adam(self._parameters, lr=config.learning_rate, fused=True)
        self._scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimiser, config.steps)

    def step(self, loss: Tensor) -> None:
        """Change these parameters alone, although the loss may read others."""
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward(inputs=self._parameters)  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._scheduler.step()


class LogTensors:
    """All transitions as tensors, with the part of them that each critic learns from."""

    def __init__(self, log: Transitions, config: FusionConfig, masks: int, reward_scale: float):
        self.state_NS, self.action_ND, self.reward_NQ, self.centre_ND = (
            torch.as_tensor(array, dtype=torch.float32)
            for array in (log.state_NS, log.action_ND, log.reward_NQ / reward_scale, log.centre_ND)
        )
        self.next_N = torch.as_tensor(log.next_N)
        generator = torch.Generator().manual_seed(config.seed)
        share = config.bootstrap_share if masks > 1 else 1.0
        self.learns_CN = torch.rand(masks, len(log), generator=generator) < share


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


def batches(log: Transitions, config: FusionConfig, *, masks: int, reward_scale: float) -> Iterator[Batch]:
    """config.steps batches drawn with replacement. Rewards are divided by reward_scale."""
    tensors = LogTensors(log, config, masks, reward_scale)
    generator = torch.Generator().manual_seed(config.seed + 1)
    for _ in range(config.steps):
        yield Batch(tensors, torch.randint(len(log), (config.batch,), generator=generator))

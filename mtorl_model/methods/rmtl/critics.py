"""Critics: what the losses of this exposure and of the rest of its session will add up to.

Equations (2) to (4) of the paper, corrected; the comments name the departures.

Shapes: N exposures of whole sessions, K categorical inputs, F numeric inputs, T tasks, D hidden size.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtorl_model.data.session_batch import SessionBatch, is_known, observed
from mtorl_model.methods.common.multitask import Inputs, MultiTaskNetwork, perceptron
from mtorl_model.methods.rmtl.config import CriticConfig

SMALLEST = 1e-4  # probabilities nearer to 0 or 1 are cut off, so that a reward is at least log(1e-4) = -9.21


class Critics(nn.Module):
    """Q_k of each task: at most 0, and read without the labels."""

    def __init__(self, config: CriticConfig, actor: MultiTaskNetwork) -> None:
        """The tables of vectors start as those of the actor."""
        super().__init__()
        self.inputs: Inputs = copy.deepcopy(actor.inputs)
        self.action = nn.Linear(1, config.action)
        size, dropout = self.inputs.size + config.action, config.critic_dropout
        self.bottom = perceptron(size, config.critic_bottom, dropout=dropout, batch_norm=False)
        self.towers = nn.ModuleList(
            perceptron(config.critic_bottom[-1], config.critic_tower, dropout=dropout, batch_norm=False, output=True)
            for _ in range(actor.sizes.tasks)
        )

    def forward(self, categorical_NK: Tensor, numeric_NF: Tensor, p_NT: Tensor) -> Tensor:
        """(N, T). p_NT: the actor's prediction, which is the action.

        Published code: all inputs are standardised, ids included, and then cast to whole numbers, so that the codes
        that reach the tables are -2 to 2. Here codes are codes.
        """
        x_NE = self.inputs(categorical_NK, numeric_NF)
        values = [
            # Published code: -ReLU, whose gradient is 0 once its input is negative: Q stays 0 for ever.
            -F.softplus(tower(self.bottom(torch.cat([x_NE, self.action(p_NT[:, task : task + 1])], dim=1))))
            for task, tower in enumerate(self.towers)
        ]
        return torch.cat(values, dim=1)


def actions(actor: MultiTaskNetwork, batch: SessionBatch) -> Tensor:
    """(N, T): a_kt, the prediction of the actor in evaluation mode, without a gradient."""
    with torch.no_grad():
        p_NT: Tensor = actor(batch.categorical_NK, batch.numeric_NF)
    return p_NT.clamp(SMALLEST, 1 - SMALLEST)


def rewards(a_NT: Tensor, batch: SessionBatch) -> Tensor:
    """Equation (2), (N, T): minus the cross-entropy, at most 0; of a label without the task so far, log(1 - m a)."""
    observed_NT, label_NT = observed(a_NT, batch), batch.label_NT
    return torch.where(is_known(batch), label_NT * observed_NT.log() + (1 - label_NT) * (1 - observed_NT).log(), 0.0)


def targets(target: Critics, batch: SessionBatch, a_NT: Tensor, gamma: float) -> Tensor:
    """Equation (3), (N, T): the reward, and the discounted value of the session's next exposure.

    Published code: a buffer of random actions, and the smaller of the values of target and online critics. The frozen
    actor makes the transitions of the log exact, so neither is used.
    """
    with torch.no_grad():
        next_NT = torch.zeros_like(a_NT)
        next_NT[:-1] = target(batch.categorical_NK, batch.numeric_NF, a_NT)[1:]
        return rewards(a_NT, batch) + gamma * torch.where(batch.is_last_N[:, None], 0.0, next_NT)


def critic_loss(critics: Critics, batch: SessionBatch, a_NT: Tensor, target_NT: Tensor) -> Tensor:
    """Equation (4). The paper prints one error for all tasks together, with the wrong sign."""
    q_NT = critics(batch.categorical_NK, batch.numeric_NF, a_NT)
    loss: Tensor = (q_NT - target_NT).square().mean()
    return loss

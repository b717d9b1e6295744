"""The training loss: equation 16, and its three parts.

Shapes: B windows, L steps, A actions, H reward losses (see reward_forms.py).
Every mean is a masked_mean over the steps with a label. Values of a batch at other steps affect no loss and no
gradient.

A batch may be computed in parts (micro-batches), one after another or in several processes. Each loss is a mean over a
different kind of label, and the parts have different numbers of these labels. Therefore a part's losses are weighted by
its share of the labels in the batch (`label_counts`), so that the losses and gradients of all parts add up to those of
the whole batch. Preference pairs are drawn within a part, because both windows of a pair must be in memory.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mtorl_model.data.batch import Batch
from mtorl_model.methods.common.masks import masked_mean
from mtorl_model.methods.common.networks.step_losses import chosen, known_action
from mtorl_model.methods.mtorl.config import LossConfig
from mtorl_model.methods.mtorl.network import Output
from mtorl_model.methods.mtorl.reward_forms import RewardForm


class Losses(NamedTuple):
    """Scalars, except reward_losses, (H,). total is minimised."""

    total: Tensor
    policy: Tensor
    reward_losses: Tensor
    dpo: Tensor

    def flat(self) -> Tensor:
        """All of them without their graph, (3 + H,): total, policy, dpo, rewards."""
        return torch.stack([self.total, self.policy, self.dpo, *self.reward_losses]).detach()


def action_log_probability(output: Output, action_BL: Tensor) -> Tensor:
    """log pi(a_t | x_t), (B, L).

    Published code, fault 2: its cross-entropy takes the axis of time for the classes, on top of a softmax.
    Here the normalisation runs over the channels, once.
    """
    log_policy_BLA = output.action_logits_BLA.log_softmax(dim=-1)
    return chosen(log_policy_BLA, action_BL)


def policy_loss(output: Output, batch: Batch) -> Tensor:
    """Equation 13: cross-entropy of the channel shown."""
    known_BL, action_BL = known_action(batch)
    return -masked_mean(action_log_probability(output, action_BL), known_BL)


def draw_pairs(batch: Batch, generator: Generator) -> Tensor:
    """The partner that each window is compared with, (B,) on the batch's device: a permutation from `generator`."""
    partner_B = torch.randperm(len(batch.label_BL), generator=generator, device=generator.device)
    return partner_B.to(batch.label_BL.device)


def _compared(batch: Batch, partner_B: Tensor) -> tuple[Tensor, Tensor]:
    """The positions at which a window and its partner are compared, (B, L); the winner, (B, 1): 1 window, -1 partner.

    The winner has the strictly greater total reward over its label steps; pairs with equal totals (a window and
    itself, too) are dropped.
    """
    known_BL, _ = known_action(batch)
    # float64 holds the sum of a window's float32 rewards without rounding: the same rewards in another order tie
    total_B = torch.where(batch.label_BL, batch.reward_BL, 0.0).sum(dim=1, dtype=torch.float64)
    side_B1 = (total_B - total_B[partner_B]).sign().unsqueeze(1)
    return known_BL & known_BL[partner_B] & (side_B1 != 0), side_B1


def dpo_loss(output: Output, batch: Batch, partner_B: Tensor, *, beta: float) -> Tensor:
    """Equation 15: of two windows of a batch, the channels of the window with more reward become more likely.

    Window i is paired with window partner_B[i] (see draw_pairs). Position t is compared with position t, counted from
    the newest step, where both channels are labels.

    Published code, fault 4: a KL of probabilities without logarithms, with one pair per batch, without beta's
    gradient. Here log-probabilities, as many pairs as windows; both sides learn.
    """
    _, action_BL = known_action(batch)
    compared_BL, side_B1 = _compared(batch, partner_B)
    log_pi_BL = action_log_probability(output, action_BL)
    margin_BL = side_B1.to(log_pi_BL.dtype) * (log_pi_BL - log_pi_BL[partner_B])
    return masked_mean(-F.logsigmoid(beta * margin_BL), compared_BL)


def label_counts(batch: Batch, partner_B: Tensor, form: RewardForm) -> Tensor:
    """Over how many labels each loss is a mean, (2 + H,) float64: policy, dpo, rewards. Counts of parts add up."""
    policy, dpo = known_action(batch)[0].sum(), _compared(batch, partner_B)[0].sum()
    return torch.stack([policy, dpo, *form.labels(batch).sum(dim=(0, 1))]).double()


def total_loss(
    output: Output, batch: Batch, config: LossConfig, form: RewardForm, partner_B: Tensor, share: Tensor | None = None
) -> Losses:
    """Equation 16. The reward term is the mean over gains, so that mu means the same for any number of them.

    share: of a part of a batch, its label_counts divided by those of the whole batch; left out, it is the whole.
    """
    policy = policy_loss(output, batch)
    rewards = form.losses(output.reward_logits_BLO, batch)
    dpo = dpo_loss(output, batch, partner_B, beta=config.beta)
    if share is not None:
        share = share.to(policy.dtype)
        policy, dpo, rewards = policy * share[0], dpo * share[1], rewards * share[2:]
    return Losses(policy + config.mu * rewards.mean() + config.dpo_weight * dpo, policy, rewards, dpo)


class MTORLLoss:
    """Equation 16 as an objective of the training loop (training/objective.py); the draws are preference pairs."""

    validation_names: tuple[str, ...] = ("policy", "reward")

    def __init__(self, config: LossConfig, form: RewardForm, gains: Sequence[str]) -> None:
        self.names = ("total", "policy", "dpo", *form.loss_names(gains))
        self._config, self._form = config, form

    def draw(self, batch: Batch, generator: Generator) -> Tensor:
        return draw_pairs(batch, generator)

    def label_counts(self, batch: Batch, drawn: Tensor) -> Tensor:
        return label_counts(batch, drawn, self._form)

    def losses(self, output: Output, batch: Batch, drawn: Tensor, share: Tensor | None) -> tuple[Tensor, Tensor]:
        losses = total_loss(output, batch, self._config, self._form, drawn, share)
        return losses.total, losses.flat()

    def validation_losses(self, output: Output, batch: Batch) -> Tensor:
        """Policy and reward, unweighted; the reward is the mean over its losses."""
        rewards = self._form.losses(output.reward_logits_BLO, batch)
        return torch.stack([policy_loss(output, batch), rewards.mean()])

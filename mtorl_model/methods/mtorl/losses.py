"""What training minimises: equation 16, and its three parts.

Shapes: B windows, L steps, A actions, G gains, O reward outputs (see model.Output).
Every mean is a masked_mean over the steps that bear a label. What a batch holds elsewhere reaches neither a
loss nor a gradient, whatever it is.

A batch may be computed in parts (micro-batches), one after another or on several processes. Each loss is a mean
over labels of its own kind, and parts hold different numbers of them: a part's losses count by its share of the
batch's labels (`label_counts`), so that the losses and gradients of all parts add up to those of the whole batch.
Preference pairs are drawn within a part, as their windows have to be in memory together.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mtorl_model.data.batch import Batch
from mtorl_model.methods.mtorl.config import LossConfig
from mtorl_model.methods.mtorl.model import Output


class Losses(NamedTuple):
    """Scalars, but for reward_losses: one a gain (G,) in the binary form, else (1,). total is what to minimise."""

    total: Tensor
    policy: Tensor
    reward_losses: Tensor
    dpo: Tensor

    def flat(self) -> Tensor:
        """All of them without their graph, (3 + heads,): total, policy, dpo, rewards."""
        return torch.stack([self.total, self.policy, self.dpo, *self.reward_losses]).detach()


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x where mask (same shape) is True; 0 with zero gradient where it is True nowhere.

    A small batch may hold no known action or no preference pair: then that loss says nothing. Raising would
    have to wait for the device at every step.
    """
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp_min(1)


def _known_action(batch: Batch) -> tuple[Tensor, Tensor]:
    """The steps whose channel is a label, and the channels: 0 elsewhere, to be looked up safely."""
    known_BL = batch.label_BL & (batch.action_BL >= 0)
    return known_BL, torch.where(known_BL, batch.action_BL, 0)


def action_log_probability(output: Output, action_BL: Tensor) -> Tensor:
    """log pi(a_t | x_t), (B, L).

    Published code, fault 2: its cross-entropy takes the axis of time for the classes, on top of a softmax.
    Here the normalisation runs over the channels, once.
    """
    log_policy_BLA = output.action_logits_BLA.log_softmax(dim=-1)
    return log_policy_BLA.gather(-1, action_BL.unsqueeze(-1)).squeeze(-1)


def policy_loss(output: Output, batch: Batch) -> Tensor:
    """Equation 13: cross-entropy of the channel shown."""
    known_BL, action_BL = _known_action(batch)
    return -masked_mean(action_log_probability(output, action_BL), known_BL)


def highest_gain(gains_BLG: Tensor) -> Tensor:
    """The onehot form's class, (B, L): 0 = no gain, k = gain k is the last one reached.

    A dataset contract lists its gains from the least to the most valuable.
    """
    rank_G = torch.arange(1, gains_BLG.shape[-1] + 1, device=gains_BLG.device)
    return torch.where(gains_BLG > 0.5, rank_G, 0).amax(dim=-1)


def _told(batch: Batch) -> Tensor:
    """The labels that say something about a gain, (B, L, G): see reward_losses on maturity."""
    return batch.label_BL.unsqueeze(-1) & (batch.maturity_BLG > 0)


def reward_losses(output: Output, batch: Batch) -> Tensor:
    """The reward loss by reward form: binary (G,), equations 14 and 20; others (1,), equation 19 or 21.

    Where a gain may still come (delayed_feedback.py), "none yet" has the probability 1 - maturity * r^, and at
    maturity 0 the label says nothing about it. Only the binary form knows of maturity.

    As printed, equations 14 and 20 hold (1 - r)(1 - log r^) (fault 7); cross-entropy is (1 - r) log(1 - r^).
    """
    label_BL, logits_BLO = batch.label_BL, output.reward_logits_BLO
    if output.reward_form == "binary":
        target_BLG = torch.where(label_BL.unsqueeze(-1), batch.gains_BLG, 0.0)
        loss_BLG = F.binary_cross_entropy_with_logits(logits_BLO, target_BLG, reduction="none")
        # log(1 - m p) - log(1 - p) = softplus(logit + log(1 - m)); at maturity 1 it is 0, gradient included.
        maturity_BLG = torch.where(label_BL.unsqueeze(-1), batch.maturity_BLG, 1.0)
        loss_BLG = loss_BLG - (1 - target_BLG) * F.softplus(logits_BLO + torch.log1p(-maturity_BLG))
        heads = zip(loss_BLG.unbind(-1), _told(batch).unbind(-1), strict=True)
        return torch.stack([masked_mean(loss_BL, told_BL) for loss_BL, told_BL in heads])
    if output.reward_form == "onehot":
        loss_BL = F.cross_entropy(logits_BLO.transpose(1, 2), highest_gain(batch.gains_BLG), reduction="none")
        return masked_mean(loss_BL, label_BL).unsqueeze(0)
    # continuous and fused differ in how reward_BL was made, not here
    target_BL = torch.where(label_BL, batch.reward_BL, 0.0)
    return masked_mean((logits_BLO.squeeze(-1).sigmoid() - target_BL).square(), label_BL).unsqueeze(0)


def draw_pairs(batch: Batch, generator: Generator) -> Tensor:
    """The window that each is compared with, (B,) on the batch's device: a permutation drawn by `generator`."""
    other_B = torch.randperm(len(batch.label_BL), generator=generator, device=generator.device)
    return other_B.to(batch.label_BL.device)


def _compared(batch: Batch, other_B: Tensor) -> tuple[Tensor, Tensor]:
    """The positions at which a window and its other are compared, (B, L); who wins, (B, 1): 1 the window, -1 its other.

    The winner has the strictly greater total reward over its label steps; pairs with equal totals (a window and
    itself, too) are dropped.
    """
    known_BL, _ = _known_action(batch)
    # float64 holds the sum of a window's float32 rewards without rounding: the same rewards in another order tie
    total_B = torch.where(batch.label_BL, batch.reward_BL, 0.0).sum(dim=1, dtype=torch.float64)
    side_B1 = (total_B - total_B[other_B]).sign().unsqueeze(1)
    return known_BL & known_BL[other_B] & (side_B1 != 0), side_B1


def dpo_loss(output: Output, batch: Batch, other_B: Tensor, *, beta: float) -> Tensor:
    """Equation 15: of two windows of a batch, the channels of the one that earned more are to be more likely.

    Window i is paired with window other_B[i] (see draw_pairs). Position t is compared with position t, counted from
    the newest step, where both channels are labels.

    Published code, fault 4: a KL of probabilities without logarithms, of one pair a batch, without beta's
    gradient. Here log-probabilities, as many pairs as windows; both sides learn.
    """
    _, action_BL = _known_action(batch)
    compared_BL, side_B1 = _compared(batch, other_B)
    log_pi_BL = action_log_probability(output, action_BL)
    margin_BL = side_B1.to(log_pi_BL.dtype) * (log_pi_BL - log_pi_BL[other_B])
    return masked_mean(-F.logsigmoid(beta * margin_BL), compared_BL)


def label_counts(batch: Batch, other_B: Tensor, reward_form: str) -> Tensor:
    """Over how many labels each loss is a mean, (2 + heads,) float64: policy, dpo, rewards. Counts of parts add up."""
    told_BLH = _told(batch) if reward_form == "binary" else batch.label_BL.unsqueeze(-1)
    policy, dpo = _known_action(batch)[0].sum(), _compared(batch, other_B)[0].sum()
    return torch.stack([policy, dpo, *told_BLH.sum(dim=(0, 1))]).double()


def total_loss(
    output: Output, batch: Batch, config: LossConfig, other_B: Tensor, share: Tensor | None = None
) -> Losses:
    """Equation 16. The reward term is the mean over gains, so that mu means the same for any number of them.

    share: of a part of a batch, its label_counts divided by those of the whole batch; left out, it is the whole.
    """
    policy = policy_loss(output, batch)
    rewards = reward_losses(output, batch)
    dpo = dpo_loss(output, batch, other_B, beta=config.beta)
    if share is not None:
        share = share.to(policy.dtype)
        policy, dpo, rewards = policy * share[0], dpo * share[1], rewards * share[2:]
    return Losses(policy + config.mu * rewards.mean() + config.dpo_weight * dpo, policy, rewards, dpo)

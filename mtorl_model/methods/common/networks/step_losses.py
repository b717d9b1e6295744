"""The losses of single steps that several methods share, one number for each entry.

Shapes: B windows, L steps, A actions (channels), G gains.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtorl_model.data.batch import Batch


def known_action(batch: Batch) -> tuple[Tensor, Tensor]:
    """The steps whose channel is a label, and the channels: 0 elsewhere, to be looked up safely."""
    known_BL = batch.label_BL & (batch.action_BL >= 0)
    return known_BL, torch.where(known_BL, batch.action_BL, 0)


def chosen(x_BLA: Tensor, action_BL: Tensor) -> Tensor:
    """The entry of each step's channel, (B, L)."""
    return x_BLA.gather(-1, action_BL.unsqueeze(-1)).squeeze(-1)


def gain_labels(batch: Batch) -> Tensor:
    """The gains that are labels, (B, L, G). Those with maturity 0 are left out: whether they come is not known yet."""
    return batch.label_BL.unsqueeze(-1) & (batch.maturity_BLG > 0)


def gain_losses(logits_BLG: Tensor, batch: Batch) -> Tensor:
    """The cross-entropy of each gain, (B, L, G); finite without meaning where gain_labels is False.

    A label without the gain has the probability 1 - maturity * r^, see delayed_feedback.py.
    """
    label_BL1 = batch.label_BL.unsqueeze(-1)
    target_BLG = torch.where(label_BL1, batch.gains_BLG, 0.0)
    loss_BLG = F.binary_cross_entropy_with_logits(logits_BLG, target_BLG, reduction="none")
    # log(1 - m p) - log(1 - p) = softplus(logit + log(1 - m)); at maturity 1 it is 0, gradient included.
    maturity_BLG = torch.where(label_BL1, batch.maturity_BLG, 1.0)
    return loss_BLG - (1 - target_BLG) * F.softplus(logits_BLG + torch.log1p(-maturity_BLG))

"""Logits of S submodels, with a leading axis S: their losses in training, and their average."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mtorl_model.data.batch import Batch
from mtorl_model.methods.baselines.shared.loss_sum import LossPart
from mtorl_model.methods.baselines.shared.step_logits import StepLogits


def average(logits: StepLogits) -> StepLogits:
    """The logits of the mean probabilities, with an axis of length 1 in place of S."""
    channel_SBLA, gains_SBLG = logits
    channel_1BLA = channel_SBLA.log_softmax(dim=-1).logsumexp(dim=0, keepdim=True) - math.log(len(channel_SBLA))
    yes_1BLG, no_1BLG = (F.logsigmoid(x).logsumexp(dim=0, keepdim=True) for x in (gains_SBLG, -gains_SBLG))
    return StepLogits(channel_1BLA, yes_1BLG - no_1BLG)


def over_submodels(part: LossPart) -> LossPart:
    """The mean over the leading axis of the logits."""

    def losses(output: StepLogits, batch: Batch) -> Tensor:
        losses_SX: Tensor = torch.vmap(lambda *logits: part.losses(StepLogits(*logits), batch))(*output)
        return losses_SX.mean(dim=0)

    return part._replace(losses=losses)

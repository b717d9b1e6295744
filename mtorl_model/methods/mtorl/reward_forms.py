"""The four forms of the reward of equation 18: its inputs, outputs and losses.

Shapes: B windows, L steps, G gains (from the least to the most valuable), O reward outputs, H reward losses.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtorl_model.data.batch import Batch
from mtorl_model.data.reward_inputs import GAINS_AND_REWARD, HIGHEST_GAIN, SCALED_REWARD, RewardInputs
from mtorl_model.methods.common.masks import masked_mean
from mtorl_model.methods.common.networks.step_losses import gain_labels, gain_losses


class RewardForm(ABC):
    """One form of the reward. Its losses are means over label steps; other steps do not affect them."""

    name: ClassVar[str]
    inputs: ClassVar[RewardInputs]

    @abstractmethod
    def outputs(self, gains: int) -> int:
        """O, the number of outputs of the reward decoder."""

    def loss_names(self, gains: Sequence[str]) -> tuple[str, ...]:
        """A name for each loss, length H."""
        return ("reward_0",)

    def labels(self, batch: Batch) -> Tensor:
        """The labels that each loss is a mean over, (B, L, H) boolean."""
        return batch.label_BL.unsqueeze(-1)

    @abstractmethod
    def losses(self, logits_BLO: Tensor, batch: Batch) -> Tensor:
        """The reward losses, (H,)."""

    @abstractmethod
    def gains(self, logits_BLO: Tensor, gains: int) -> Tensor:
        """How likely each gain is at each step, (B, L, G), in (0, 1)."""


class Binary(RewardForm):
    """One logit and one cross-entropy per gain: equations 14 and 20."""

    name = "binary"
    inputs = GAINS_AND_REWARD

    def outputs(self, gains: int) -> int:
        return gains

    def loss_names(self, gains: Sequence[str]) -> tuple[str, ...]:
        return tuple(gains)

    def labels(self, batch: Batch) -> Tensor:
        return gain_labels(batch)

    def losses(self, logits_BLO: Tensor, batch: Batch) -> Tensor:
        """(G,).

        As printed, equations 14 and 20 hold (1 - r)(1 - log r^) (fault 7); cross-entropy is (1 - r) log(1 - r^).
        """
        loss_BLG = gain_losses(logits_BLO, batch)
        by_gain = zip(loss_BLG.unbind(-1), self.labels(batch).unbind(-1), strict=True)
        return torch.stack([masked_mean(loss_BL, label_BL) for loss_BL, label_BL in by_gain])

    def gains(self, logits_BLO: Tensor, gains: int) -> Tensor:
        return logits_BLO.sigmoid()


class Continuous(RewardForm):
    """One score for all gains, fitted to the scaled reward by its squared error: equation 19."""

    name = "continuous"
    inputs = SCALED_REWARD

    def outputs(self, gains: int) -> int:
        return 1

    def losses(self, logits_BLO: Tensor, batch: Batch) -> Tensor:
        target_BL = torch.where(batch.label_BL, batch.reward_BL, 0.0)
        squared_BL = (logits_BLO.squeeze(-1).sigmoid() - target_BL).square()
        return masked_mean(squared_BL, batch.label_BL).unsqueeze(0)

    def gains(self, logits_BLO: Tensor, gains: int) -> Tensor:
        """All gains have the same predicted number: a score for ranking, not a probability."""
        return logits_BLO.sigmoid().expand(-1, -1, gains)


class Fused(Continuous):
    """The same network and loss as continuous; the forms differ in the definition of the scaled reward."""

    name = "fused"


class OneHot(RewardForm):
    """One logit per class: class 0 has no gain, class k has gain k and no later one. Equation 21."""

    name = "onehot"
    inputs = HIGHEST_GAIN

    def outputs(self, gains: int) -> int:
        return gains + 1

    def losses(self, logits_BLO: Tensor, batch: Batch) -> Tensor:
        loss_BL = F.cross_entropy(logits_BLO.transpose(1, 2), highest_gain(batch.gains_BLG), reduction="none")
        return masked_mean(loss_BL, batch.label_BL).unsqueeze(0)

    def gains(self, logits_BLO: Tensor, gains: int) -> Tensor:
        """The probability of the gain's class or a later one: a later gain implies the earlier ones."""
        class_BLO = logits_BLO.softmax(dim=-1)
        return class_BLO.flip(-1).cumsum(-1).flip(-1)[..., 1:]


def highest_gain(gains_BLG: Tensor) -> Tensor:
    """The class of the onehot form, (B, L): 0 = no gain, k = gain k is the last one reached."""
    rank_G = torch.arange(1, gains_BLG.shape[-1] + 1, device=gains_BLG.device)
    return torch.where(gains_BLG > 0.5, rank_G, 0).amax(dim=-1)


REWARD_FORMS: dict[str, RewardForm] = {form.name: form for form in (Binary(), Continuous(), Fused(), OneHot())}

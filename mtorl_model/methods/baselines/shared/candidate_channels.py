"""Methods that score every channel as a candidate: a logit of the channel, and of each gain in it.

Shapes as in data/batch.py.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mtorl_model.data.batch import Batch
from mtorl_model.data.initial_policy import PRIOR_EXPOSURES
from mtorl_model.data.windows.store import WindowStore
from mtorl_model.methods.baselines.shared.loss_sum import LossPart, LossSum, channel_part, gain_parts, known_labels
from mtorl_model.methods.baselines.shared.network_method import NetworkMethod, array_of, policy_of
from mtorl_model.methods.common.networks.step_losses import gain_labels, known_action
from mtorl_model.methods.method import GAINS, POLICY, VALUES, Floats, Prediction, base_rates

_WINDOWS_AT_ONCE = 4096


class CandidateLogits(NamedTuple):
    """The logits of every channel, and of each gain if the channel is chosen."""

    channel_BLA: Tensor
    gains_BLAG: Tensor

    @classmethod
    def split(cls, logits_BLAO: Tensor) -> "CandidateLogits":
        """The parts of outputs whose first is the channel's logit."""
        return cls(logits_BLAO[..., 0].float(), logits_BLAO[..., 1:].float())


def logged_gain_logits(output: CandidateLogits, batch: Batch) -> Tensor:
    """The logits of the gains in the logged channel, (B, L, G)."""
    _, action_BL = known_action(batch)
    index_BL1G = action_BL[..., None, None].expand(-1, -1, 1, output.gains_BLAG.shape[-1])
    return output.gains_BLAG.gather(2, index_BL1G).squeeze(2)


def known_gain_labels(batch: Batch) -> Tensor:
    return gain_labels(batch) & known_labels(batch).unsqueeze(-1)


class CandidateMethod(NetworkMethod):
    """The policy imitates the log; a gain before the choice is the mean over the policy."""

    predicts = frozenset({POLICY, GAINS, VALUES})

    def gain_parts(self) -> list[LossPart]:
        return gain_parts(self.spec.gains, logged_gain_logits, known_gain_labels)

    def objective(self) -> LossSum:
        return LossSum(channel_part(lambda output: output.channel_BLA), *self.gain_parts())

    def policy(self, logits: CandidateLogits, values_BLAG: Floats) -> Floats:
        """The probability of each channel, (B, L, A)."""
        return policy_of(logits.channel_BLA)

    def predict_with(self, network: nn.Module, batch: Batch) -> Prediction:
        logits: CandidateLogits = network(batch)
        values_BLAG = array_of(logits.gains_BLAG.sigmoid())
        policy_BLA = self.policy(logits, values_BLAG)
        gains_BLG = np.minimum(np.einsum("bla,blag->blg", policy_BLA, values_BLAG), 1.0)
        return Prediction(policy_BLA, gains_BLG, values_BLAG)

    def choose(self, train: WindowStore) -> dict[str, Floats]:
        return {"base_values_AG": gain_rates_by_channel(train, np.array(base_rates(self)), len(self.spec.channels))}

    def base_values(self) -> Floats:
        return self.chosen["base_values_AG"]


def gain_rates_by_channel(train: WindowStore, rate_G: Floats, channels: int) -> Floats:
    """[A, G]: the rate of each gain in each channel, with additional exposures at the overall rates."""
    count_A, gained_AG = np.full(channels, PRIOR_EXPOSURES), np.tile(PRIOR_EXPOSURES * rate_G, (channels, 1))
    for batch in train.in_order(_WINDOWS_AT_ONCE):
        known_BL, action_BL = known_action(batch)
        np.add.at(count_A, action_BL[known_BL].numpy(), 1.0)
        np.add.at(gained_AG, action_BL[known_BL].numpy(), batch.gains_BLG[known_BL].numpy())
    rate_AG: Floats = gained_AG / count_A[:, None]
    return rate_AG


def repeated(x_BLX: Tensor, channels: int) -> Tensor:
    """The same numbers for every channel, (B, L, A, X), without a copy."""
    return x_BLX.unsqueeze(2).expand(-1, -1, channels, -1)


def channel_vectors(table: nn.Embedding, like_BLX: Tensor) -> Tensor:
    """The vectors of all channels at every step, (B, L, A, D), without a copy."""
    return table.weight.expand(*like_BLX.shape[:2], *table.weight.shape)


def cumulative(x_BLAD: Tensor, valid_BL: Tensor) -> Tensor:
    """The sum over the real steps up to each step."""
    return torch.where(valid_BL[..., None, None], x_BLAD, 0.0).cumsum(dim=1)

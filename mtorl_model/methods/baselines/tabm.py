"""TabM (Gorishniy et al., ICLR 2025, arXiv 2410.24210), of the authors' library: S networks that share most weights.

    x -> s_i * (W (r_i * x)) + b_i    (a layer of submodel i; W is the same for all submodels)
    F_i(x) = MLP_i(x), each with its own last layer;    p(x) = mean over i of p_i(x)

The first r_i has random signs, one for each input; all other r_i and s_i start at 1. Each submodel has its own loss,
and the losses are averaged. The average of the submodels' probabilities predicts and decides when to stop. A softmax
gives the policy, a sigmoid each gain; a step is predicted from its own inputs.

Departures: categories are embedded as in the other networks, in place of one-hot inputs, and numbers are not embedded
(the paper's plain TabM).

Shapes as in data/batch.py; S submodels, E inputs.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods import register
from mtorl_model.methods.baselines.shared.config import NetworkConfig
from mtorl_model.methods.baselines.shared.library import library
from mtorl_model.methods.baselines.shared.loss_sum import LossPart, LossSum
from mtorl_model.methods.baselines.wide_and_deep import StepLogits, StepLogitsMethod
from mtorl_model.methods.common.embedding import CategoricalEmbedding, embedding_size, step_inputs
from mtorl_model.methods.method import Prediction
from schemas.json_config import require

tabm = library("tabm")


@dataclass(frozen=True, slots=True)
class TabMConfig(NetworkConfig):
    submodels: int = 32  # S; k in the paper

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        require(self.submodels >= 1, f"submodels is {self.submodels}, must be at least 1")


class TabMNetwork(nn.Module):
    """Logits with a leading axis: of S submodels in training, else of length 1, of their average."""

    def __init__(self, config: TabMConfig, sizes: InputSizes):
        super().__init__()
        self.actions = sizes.actions
        self.embedding = CategoricalEmbedding(sizes.vocabulary, dropout=config.category_dropout)
        numbers = sizes.actions + sizes.reward_inputs + sizes.numeric
        widths = [1] * numbers + [embedding_size(size) for size in sizes.vocabulary]
        self.layers = nn.Sequential(
            tabm.EnsembleView(k=config.submodels),
            tabm.make_tabm_backbone(
                d_in=sum(widths), n_blocks=config.layers, d_block=config.hidden, dropout=config.dropout,
                activation="ReLU", k=config.submodels, arch_type="tabm", start_scaling_init="random-signs",
                start_scaling_init_chunks=widths,
            ),
            tabm.LinearEnsemble(config.hidden, sizes.actions + sizes.gains, k=config.submodels),
        )  # fmt: skip

    def forward(self, batch: Batch) -> StepLogits:
        x_BLE = step_inputs(batch, self.embedding)
        logits_SBLO = self.layers(x_BLE.flatten(0, 1)).float().transpose(0, 1).unflatten(1, x_BLE.shape[:2])
        logits = StepLogits(logits_SBLO[..., : self.actions], logits_SBLO[..., self.actions :])
        return logits if self.training else average(logits)


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


@register
class TabM(StepLogitsMethod):
    """TabM. config.train.members is the number of such networks, each of S submodels."""

    name = "tabm"
    Config = TabMConfig

    def new_network(self, sizes: InputSizes) -> TabMNetwork:
        return TabMNetwork(self.config, sizes)

    def objective(self) -> LossSum:
        return LossSum(*map(over_submodels, super().objective().parts))

    def predict_with(self, network: nn.Module, batch: Batch) -> Prediction:
        return super().predict_with(network, batch).take(0)

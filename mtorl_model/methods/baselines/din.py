"""Deep Interest Network (Zhou et al., KDD 2018): the past is summed up differently for each candidate.

    u_a = sum_j g(e_j, v_a, e_j - v_a, e_j * v_a) e_j        (equation 3 of the paper; no softmax over j)
    logits_a = MLP(u_a, v_a, x)
    Dice(s) = p s + (1 - p) alpha s,  p = sigmoid((s - E s) / sqrt(Var s + eps))        (equation 5)

e_j is the vector of the facts that became known between step j - 1 and step j, v_a the vector of the candidate,
channel a. At step t, j runs over the real steps up to t. The weight of j does not depend on t, so all steps cost as
much as one.

Departures: the candidates are channels, so each has a logit for the policy, too; the paper's regularisation of
rare items is left out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods import register
from mtorl_model.methods.baselines.shared.candidate_channels import (
    CandidateLogits,
    CandidateMethod,
    channel_vectors,
    cumulative,
    repeated,
)
from mtorl_model.methods.baselines.shared.config import NetworkConfig
from mtorl_model.methods.baselines.shared.masked_norm import MaskedNorm
from mtorl_model.methods.baselines.shared.step_network import width
from mtorl_model.methods.common.embedding import CategoricalEmbedding, step_inputs
from mtorl_model.methods.common.networks.layers import linear


@dataclass(frozen=True, slots=True)
class DINConfig(NetworkConfig):
    behaviour: int = 32  # numbers of the vectors of a past step and of a channel
    unit: int = 36  # hidden units of the activation unit, as in the paper's figure 2


class Dice(nn.Module):
    """The data-adaptive activation; its statistics count real steps only. alpha starts at 0, as in the paper's code."""

    def __init__(self, features: int):
        super().__init__()
        self.norm = MaskedNorm(features, eps=1e-8)
        self.alpha = nn.Parameter(torch.zeros(features))

    def forward(self, x_XD: Tensor, counted_X: Tensor) -> Tensor:
        p_XD = torch.sigmoid(self.norm(x_XD, counted_X))
        return p_XD * x_XD + (1.0 - p_XD) * self.alpha * x_XD


class DINNetwork(nn.Module):
    """One logit for the channel and one for each gain, of every channel at every step."""

    def __init__(self, config: DINConfig, sizes: InputSizes):
        super().__init__()
        self.embedding = CategoricalEmbedding(sizes.vocabulary, dropout=config.category_dropout)
        inputs, d = width(sizes, self.embedding), config.behaviour
        self.behaviour = linear(inputs, d, bias=False)
        self.channels = nn.Embedding(sizes.actions, d)
        self.unit = nn.ModuleList([linear(4 * d, config.unit), linear(config.unit, 1)])
        self.unit_activation = Dice(config.unit)
        self.context = linear(inputs, config.hidden)  # with `interest`, the first layer of the MLP
        self.interest = linear(2 * d, config.hidden, bias=False)
        self.layers = nn.ModuleList(linear(config.hidden, config.hidden) for _ in range(config.layers - 1))
        self.activations = nn.ModuleList(Dice(config.hidden) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)
        self.out = linear(config.hidden, 1 + sizes.gains)

    def forward(self, batch: Batch) -> CandidateLogits:
        x_BLE = step_inputs(batch, self.embedding)
        v_BLAD = channel_vectors(self.channels, x_BLE)
        counted_BLA = batch.valid_BL.unsqueeze(-1).expand(v_BLAD.shape[:3])
        e_BLAD = repeated(self.behaviour(x_BLE), v_BLAD.shape[2])
        u_BLAD = cumulative(self.weight(e_BLAD, v_BLAD, counted_BLA) * e_BLAD, batch.valid_BL)
        h_BLAH = self.context(x_BLE).unsqueeze(2) + self.interest(torch.cat([u_BLAD, v_BLAD], dim=-1))
        for number, activation in enumerate(self.activations):
            if number:
                h_BLAH = self.layers[number - 1](h_BLAH)
            h_BLAH = self.dropout(activation(h_BLAH, counted_BLA))
        return CandidateLogits.split(self.out(h_BLAH))

    def weight(self, e_BLAD: Tensor, v_BLAD: Tensor, counted_BLA: Tensor) -> Tensor:
        """g, the weight of each past step for each channel, (B, L, A, 1)."""
        first, last = self.unit
        hidden_BLAU = first(torch.cat([e_BLAD, v_BLAD, e_BLAD - v_BLAD, e_BLAD * v_BLAD], dim=-1))
        weight_BLA1: Tensor = last(self.unit_activation(hidden_BLAU, counted_BLA))
        return weight_BLA1


@register
class DIN(CandidateMethod):
    """Deep Interest Network."""

    name = "din"
    Config = DINConfig

    def new_network(self, sizes: InputSizes) -> DINNetwork:
        return DINNetwork(self.config, sizes)

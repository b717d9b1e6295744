"""STAR (Sheng et al., CIKM 2021): one network for several domains; a domain is a candidate channel.

    W*_p = W_p o W,  b*_p = b_p + b                                             (equations 5 and 6 of the paper)
    z' = gamma gamma_p (z - mu_p) / sqrt(var_p + eps) + beta + beta_p           (partitioned normalisation)
    logit = FCN_p(z') + auxiliary(z, domain)

mu_p and var_p are those of the domain's own samples, here the labels whose logged channel is p; for prediction, moving
averages. Each step is predicted from its own inputs.

Departure: the paper has one click logit; here a domain also has a logit of its channel, for the policy.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods import register
from mtorl_model.methods.baselines.shared.candidate_channels import (
    CandidateLogits,
    CandidateMethod,
    channel_vectors,
    repeated,
)
from mtorl_model.methods.baselines.shared.config import NetworkConfig
from mtorl_model.methods.baselines.shared.masked_norm import MaskedNorm
from mtorl_model.methods.baselines.shared.step_network import perceptron, width
from mtorl_model.methods.common.embedding import CategoricalEmbedding, step_inputs
from mtorl_model.methods.common.networks.layers import linear
from mtorl_model.methods.common.networks.step_losses import known_action

_DOMAIN = 16  # numbers of the vector of a domain
_AUXILIARY = 32  # hidden units of the auxiliary network


class StarLayer(nn.Module):
    """A linear layer of every domain: the product of shared and own weights, the sum of shared and own biases."""

    def __init__(self, domains: int, inputs: int, outputs: int):
        super().__init__()
        self.shared = linear(inputs, outputs, gain="leaky_relu")
        self.weight_AIO = nn.Parameter(torch.ones(domains, inputs, outputs))
        self.bias_AO = nn.Parameter(torch.zeros(domains, outputs))

    def forward(self, x_BLAI: Tensor) -> Tensor:
        weight_AIO = self.weight_AIO * self.shared.weight.T
        return torch.einsum("blai,aio->blao", x_BLAI, weight_AIO) + self.shared.bias + self.bias_AO


class PartitionedNorm(nn.Module):
    """The normalisation of each domain's own samples, with shared and own scale and shift."""

    def __init__(self, domains: int, features: int):
        super().__init__()
        self.norms = nn.ModuleList(MaskedNorm(features) for _ in range(domains))
        self.gamma_D, self.beta_D = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.gamma_AD = nn.Parameter(torch.ones(domains, features))
        self.beta_AD = nn.Parameter(torch.zeros(domains, features))

    def forward(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        known_BL, action_BL = known_action(batch)
        normed = [norm(x_BLD, known_BL & (action_BL == p)) for p, norm in enumerate(self.norms)]
        return self.gamma_D * self.gamma_AD * torch.stack(normed, dim=2) + self.beta_D + self.beta_AD


class StarNetwork(nn.Module):
    """One logit for the channel and one for each gain, of every channel at every step."""

    def __init__(self, config: NetworkConfig, sizes: InputSizes):
        super().__init__()
        self.embedding = CategoricalEmbedding(sizes.vocabulary, dropout=config.category_dropout)
        inputs, outputs = width(sizes, self.embedding), 1 + sizes.gains
        self.norm = PartitionedNorm(sizes.actions, inputs)
        units = [inputs, *[config.hidden] * config.layers, outputs]
        self.layers = nn.ModuleList(
            StarLayer(sizes.actions, inputs_of, outputs_of) for inputs_of, outputs_of in pairwise(units)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.domains = nn.Embedding(sizes.actions, _DOMAIN)
        self.auxiliary = perceptron(inputs + _DOMAIN, [_AUXILIARY], outputs, config.dropout)

    def forward(self, batch: Batch) -> CandidateLogits:
        x_BLE = step_inputs(batch, self.embedding)
        h_BLAH = self.norm(x_BLE, batch)
        for layer in self.layers[:-1]:
            h_BLAH = self.dropout(F.leaky_relu(layer(h_BLAH)))
        d_BLAD = channel_vectors(self.domains, x_BLE)
        auxiliary_BLAO = self.auxiliary(torch.cat([repeated(x_BLE, d_BLAD.shape[2]), d_BLAD], dim=-1))
        return CandidateLogits.split(self.layers[-1](h_BLAH) + auxiliary_BLAO)


@register
class STAR(CandidateMethod):
    """Star topology adaptive recommender."""

    name = "star"

    def new_network(self, sizes: InputSizes) -> StarNetwork:
        return StarNetwork(self.config, sizes)

"""A multi-layer perceptron on the inputs of a single step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods.baselines.shared.config import NetworkConfig
from mtorl_model.methods.common.embedding import CategoricalEmbedding, step_inputs
from mtorl_model.methods.common.networks.layers import leaky_linear, linear


def perceptron(inputs: int, hidden: Sequence[int], outputs: int, dropout: float) -> nn.Sequential:
    """Hidden layers with LeakyReLU and dropout, and a linear layer."""
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [leaky_linear(inputs, units), nn.Dropout(dropout)]
        inputs = units
    return nn.Sequential(*layers, linear(inputs, outputs))


class StepNetwork(nn.Module):
    """Embedded categories and numbers of step t to some outputs; it reads no other step and no padding.

    further: inputs in addition to those of the batch.
    """

    def __init__(self, config: NetworkConfig, sizes: InputSizes, outputs: int, *, further: int = 0):
        super().__init__()
        self.embedding = CategoricalEmbedding(sizes.vocabulary, dropout=config.category_dropout)
        inputs = width(sizes, self.embedding) + further
        self.layers = perceptron(inputs, [config.hidden] * config.layers, outputs, config.dropout)

    def forward(self, batch: Batch, further_BLX: Tensor | None = None) -> Tensor:
        x_BLE = step_inputs(batch, self.embedding)
        if further_BLX is not None:
            x_BLE = torch.cat([x_BLE, further_BLX], dim=-1)
        return self.layers(x_BLE).float()  # type: ignore[no-any-return]


def width(sizes: InputSizes, embedding: CategoricalEmbedding) -> int:
    """The number of a step's inputs, embedded."""
    return sizes.actions + sizes.reward_inputs + sizes.numeric + embedding.size

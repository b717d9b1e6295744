"""The actor, and many critics as one batched network.

Shapes: B transitions, S size of a state, D dimensions of an action, C critics, H hidden units.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


class Actor(nn.Module):
    """The action of a state, in [-1, 1]. An untrained actor gives an action near 0, the plain product.

    Departure: two hidden layers; the paper's actor resembles PLE, its layers are not published.
    """

    def __init__(self, state: int, actions: int, hidden: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(state, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, actions)
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)

    @torch.no_grad()
    def start_at(self, action_D: Tensor) -> None:
        """Let an untrained actor give about this action, within (-1, 1), in every state."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        last.bias.copy_(torch.atanh(action_D))

    def forward(self, state_BS: Tensor) -> Tensor:
        return torch.tanh(self.layers(state_BS))


class Critics(nn.Module):
    """C critics with separate weights; each maps a state and an action to a value."""

    def __init__(self, critics: int, state: int, actions: int, hidden: int):
        super().__init__()
        sizes = (state + actions, hidden, hidden, 1)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for inputs, outputs in pairwise(sizes):
            bound = 1.0 / math.sqrt(inputs)  # as torch.nn.Linear
            self.weights.append(nn.Parameter(torch.empty(critics, inputs, outputs).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(critics, 1, outputs).uniform_(-bound, bound)))

    @torch.no_grad()
    def start_at(self, value_C: Tensor) -> None:
        """Let the values vary around these from the first step on; an action changes them little."""
        self.biases[-1].copy_(value_C[:, None, None])

    def forward(self, state_BS: Tensor, action_BD: Tensor) -> Tensor:
        """[C, B]: the value of the action by each critic."""
        x_BH = torch.cat([state_BS, action_BD], dim=-1)
        x_CBH = x_BH.expand(self.weights[0].shape[0], -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x_CBH = torch.baddbmm(bias, torch.relu(x_CBH) if layer else x_CBH, weight)
        return x_CBH.squeeze(-1)

"""The actor, and many critics as one batched network.

Shapes: B transitions, S size of a state, D dimensions of an action, C critics, H hidden units, O outputs.
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


class Ensemble(nn.Module):
    """C networks with two hidden layers and separate weights, [B, inputs] to [C, B, O]."""

    def __init__(self, members: int, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for size, next_size in pairwise((inputs, hidden, hidden, outputs)):
            bound = 1.0 / math.sqrt(size)  # as torch.nn.Linear
            self.weights.append(nn.Parameter(torch.empty(members, size, next_size).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(members, 1, next_size).uniform_(-bound, bound)))

    def outputs(self, x_BI: Tensor) -> Tensor:
        """[C, B, O]."""
        x_CBH = x_BI.expand(self.weights[0].shape[0], -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x_CBH = torch.baddbmm(bias, torch.relu(x_CBH) if layer else x_CBH, weight)
        return x_CBH

    @torch.no_grad()
    def start_at(self, value_C: Tensor) -> None:
        """Let the first output vary around these from the first step on; an action changes it little."""
        self.biases[-1][:, 0, 0] = value_C


class Critics(Ensemble):
    """C critics; each maps a state and an action to a value."""

    def __init__(self, critics: int, state: int, actions: int, hidden: int):
        super().__init__(critics, state + actions, hidden, 1)

    def forward(self, state_BS: Tensor, action_BD: Tensor) -> Tensor:
        """[C, B]: the value of the action by each critic."""
        return self.outputs(torch.cat([state_BS, action_BD], dim=-1)).squeeze(-1)


class LocalCritics(Ensemble):
    """C critics, each a concave quadratic function of the action's place in the box, with coefficients by state.

    Departure: the paper's critic is a network of state and action. Returns vary with the state much more
    than with a small action, and such a network learns the state first. So here the action has separate coefficients,
    as in normalised advantage functions (Gu et al. 2016). Without the
    restriction to concave functions the actor would be led to whichever corner of the box is nearer.
    """

    def __init__(self, critics: int, state: int, actions: int, hidden: int):
        super().__init__(critics, state, hidden, 1 + 2 * actions)
        self._actions = actions
        with torch.no_grad():
            for parameter in (self.weights[-1], self.biases[-1]):
                parameter[..., 1:] *= 0.1
            # Nearly linear at first: with more curvature, noise would keep the actor at the centre.
            self.biases[-1][..., 1 + actions :] -= 8.0

    def forward(self, state_BS: Tensor, place_BD: Tensor) -> Tensor:
        """[C, B]: the value of the action by each critic. place_BD: in the box, from its centre, in half widths."""
        output_CBO = self.outputs(state_BS)
        slope_CBD, log_curvature_CBD = output_CBO[..., 1 : 1 + self._actions], output_CBO[..., 1 + self._actions :]
        gain_CBD = slope_CBD * place_BD - log_curvature_CBD.exp() * place_BD.square()
        value_CB: Tensor = output_CBO[..., 0] + gain_CBD.sum(dim=-1)
        return value_CB

"""The weights of the losses in stage 2: RMTL's own, the controls that it must beat, and the paper's ablation.

A weight is 1 - lambda Q: the more the losses of this exposure and of the rest of its session are expected to be, the
more it counts. Only the order of the weights carries information. `constant` has their mean, which is another learning
rate; `permuted` gives them to exposures at random; `return` has the sum that Q estimates, labels included.

Shapes: N exposures of whole sessions, T tasks.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mtorl_model.data.session_batch import SessionBatch


class WeightInputs(NamedTuple):
    """The values that a weight may depend on, without gradients."""

    q_NT: Tensor  # the critics' values for the current actor's predictions
    reward_NT: Tensor
    batch: SessionBatch
    gamma: float
    value_weight: float  # lambda
    generator: Generator  # of the permutation

    @property
    def weight_NT(self) -> Tensor:
        """Equation (7): at least 1, and independent of the labels."""
        return 1 - self.value_weight * self.q_NT


def _permuted(inputs: WeightInputs) -> Tensor:
    order_N = torch.randperm(len(inputs.q_NT), generator=inputs.generator)
    return inputs.weight_NT[order_N.to(inputs.q_NT.device)]


def discounted_returns(reward_NT: Tensor, is_last_N: Tensor, gamma: float) -> Tensor:
    """(N, T): the exact discounted sum of this and the later rewards of the session."""
    return_NT, is_last = reward_NT.cpu().numpy().copy(), is_last_N.cpu().numpy()
    for row in range(len(return_NT) - 2, -1, -1):
        if not is_last[row]:
            return_NT[row] += gamma * return_NT[row + 1]
    return torch.from_numpy(return_NT).to(reward_NT.device)


def _by_return(inputs: WeightInputs) -> Tensor:
    return_NT = discounted_returns(inputs.reward_NT, inputs.batch.is_last_N, inputs.gamma)
    return 1 - inputs.value_weight * return_NT


WEIGHTS_TO_BEAT = ("constant", "permuted")  # weights of the same size without information

Weighting = Callable[[WeightInputs], Tensor]

WEIGHTINGS: Mapping[str, Weighting] = {
    "critics": lambda inputs: inputs.weight_NT,
    # Controls
    "retrained": lambda inputs: torch.ones_like(inputs.q_NT),
    "constant": lambda inputs: inputs.weight_NT.mean(dim=0).expand_as(inputs.q_NT),
    "permuted": _permuted,
    "return": _by_return,
    # The paper's ablation; its third variant is `constant`
    "label": lambda inputs: 1 - inputs.value_weight * inputs.batch.label_NT * inputs.q_NT,
    "value": lambda inputs: -inputs.q_NT,
}

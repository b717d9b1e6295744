"""One batch of windows as tensors, with inputs and labels.

Shape suffixes used throughout mtorl_model:
B windows, L steps (oldest first, padding on the left), K categorical inputs, F numeric inputs,
A actions (channels), G gains (reward heads), R reward inputs, D hidden size.
One mask convention: boolean, True = real.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor


class Batch(NamedTuple):
    """B windows. The inputs of step t use only facts that became known strictly before t.

    Labels contain the full outcome, or the outcome as it was known at a cutoff (delayed_feedback.py). label_BL is True
    for the steps that count in the losses: real, not a context step, with a channel. If the feature spec does not know
    the channel, action_BL is -1, and the step counts in the losses of the gains alone.
    """

    categorical_BLK: Tensor  # int64 codes; 0 = missing, unseen or padding. Profile columns are repeated at each step
    numeric_BLF: Tensor  # float32, scaled by the feature spec; 0 if missing or padding
    action_in_BLA: Tensor  # float32, a_{t-1}: exposures per channel since the previous step
    reward_in_BLR: Tensor  # float32, r_{t-1}: the gains since the previous step (reward_inputs.py)
    valid_BL: Tensor  # bool, real step
    label_BL: Tensor  # bool, see above
    action_BL: Tensor  # int64 channel of the step, -1 if the spec does not know it
    gains_BLG: Tensor  # float32, 0 or 1
    maturity_BLG: Tensor  # float32, probability that a gain is already in gains_BLG; 1 for the full outcome
    reward_BL: Tensor  # float32 in [0, 1], min-max of the fused, penalised reward (equations 3 and 18)

    def to_device(self, device: str, non_blocking: bool = False) -> "Batch":
        """A copy of the batch on that device."""
        return Batch(*(t.to(device, non_blocking=non_blocking) for t in self))


@dataclass(frozen=True, slots=True)
class InputSizes:
    """The sizes of a batch that the model's weights depend on."""

    vocabulary: tuple[int, ...]  # number of codes of each categorical input, code 0 included; length K
    numeric: int  # F
    actions: int  # A
    reward_inputs: int  # R
    gains: int  # G


def step_features(batch: Batch, steps_BL: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The inputs of the chosen steps as rows of numbers, for methods that treat each step independently.

    steps_BL: True for the chosen steps. Returns [N, columns], N being the number of chosen steps: numeric inputs,
    a_{t-1}, r_{t-1}, category codes. Code 1 is the most frequent category, so a tree can separate common categories
    from rare ones.
    """
    inputs = (batch.numeric_BLF, batch.action_in_BLA, batch.reward_in_BLR, batch.categorical_BLK)
    return np.concatenate([x.numpy()[steps_BL].astype(np.float32) for x in inputs], axis=1)

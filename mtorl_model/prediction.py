"""Ask a model about windows: probabilities as float64 arrays.

Shapes as in batch.py: B windows, L steps, A actions (channels), G gains.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from mtorl_model.batch import Batch
from mtorl_model.model import MTORL

Floats = npt.NDArray[np.float64]

# Windows the model reads at once. Fixed, because a matrix product's last bits depend on its shape.
WINDOWS_AT_ONCE = 1024


class Predictions(NamedTuple):
    """What the model says of each step; at padding the numbers mean nothing."""

    policy_BLA: Floats  # probability of each channel, sums to 1 within float64 precision
    gains_BLG: Floats  # probability of each gain, 0 to 1


def device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@torch.inference_mode()
def predict(model: MTORL, batch: Batch) -> Predictions:
    """The model's policy and predicted gains, computed in float32 on the model's device, dropout off."""
    model.eval()
    output = model(batch.to(next(model.parameters()).device.type))
    policy_BLA = model.policy(output).double().cpu().numpy()
    gains_BLG = model.predicted_gains(output).double().cpu().numpy()
    # float32 sums to 1 within 1e-7 only, and its sums of probabilities can pass 1 by as much.
    return Predictions(policy_BLA / policy_BLA.sum(axis=-1, keepdims=True), np.minimum(gains_BLG, 1.0))

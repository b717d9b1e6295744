"""The one masked mean. One mask convention: boolean, True = counts."""

import torch
from torch import Tensor


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x where mask (same shape) is True; 0 with zero gradient where it is True nowhere.

    A small batch may hold no known action or no preference pair: then that loss says nothing. Raising would
    have to wait for the device at every step.
    """
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp_min(1)

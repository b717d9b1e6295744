"""The masked mean. Masks are boolean; True means that the entry counts."""

import torch
from torch import Tensor


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x over the True entries of the mask (same shape); 0 with zero gradient without a True entry.

    A small batch may have no known action or no preference pair; that loss is then 0. Raising an error instead would
    require a device synchronisation at every step.
    """
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp_min(1)

"""The soft update of target networks."""

import torch
from torch import nn


@torch.no_grad()
def move_towards(target: nn.Module, source: nn.Module, share: float) -> None:
    """The target's weights move towards the source's by this share of the difference."""
    for target_weight, weight in zip(target.parameters(), source.parameters(), strict=True):
        target_weight.lerp_(weight, share)

"""A network with a slowly moving copy, from which the targets of values are computed."""

import copy
from typing import Generic, TypeVar

from torch import nn

from mtorl_model.methods.common.soft_update import move_towards

N = TypeVar("N", bound=nn.Module)


class WithTarget(nn.Module, Generic[N]):
    """online learns; target follows it by a share of the difference before each training step.

    The move is part of the forward pass, so that checkpoints have it like any other weight.
    """

    def __init__(self, online: N, share: float):
        super().__init__()
        self.online, self.target = online, copy.deepcopy(online).requires_grad_(False)
        self.share = share

    def follow(self) -> None:
        """Call this once at the start of a forward pass; the target has no dropout."""
        if self.training:
            move_towards(self.target, self.online, self.share)
            self.target.eval()


def is_target(name: str) -> bool:
    """Whether a weight of that name, in a state dict, belongs to the copy of a WithTarget."""
    return "target" in name.split(".")


def reset_targets(module: nn.Module) -> None:
    """Let every copy in the module equal its network, as at the start of a training."""
    for part in module.modules():
        if isinstance(part, WithTarget):
            part.target.load_state_dict(part.online.state_dict())

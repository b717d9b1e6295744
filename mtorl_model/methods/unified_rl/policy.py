"""A policy that an actor network gives."""

import numpy as np
import numpy.typing as npt
import torch

from mtorl_model.methods.unified_rl.networks import Actor

Floats = npt.NDArray[np.float64]


class ActorPolicy:
    """Anything with an actor."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor

    @torch.no_grad()
    def act(self, state_NS: Floats) -> Floats:
        """[N, D]: the policy's action in each state, -1 to 1."""
        action_ND: Floats = self.actor(torch.as_tensor(state_NS, dtype=torch.float32)).double().numpy()
        return action_ND

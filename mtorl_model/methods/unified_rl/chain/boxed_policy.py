"""The policy that serves: an actor's action, kept inside the box around the action of the policy before it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtorl_model.methods.unified_rl.networks import Actor
from mtorl_model.methods.unified_rl.policy import ActorPolicy

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BoxedPolicy:
    """behaviour: the actor that the sessions were explored around. half_width: of the box, in each dimension."""

    actor: Actor
    behaviour: Actor
    half_width: float

    def act(self, state_NS: Floats) -> Floats:
        """[N, D]: the action in each state, -1 to 1."""
        centre_ND = ActorPolicy(self.behaviour).act(state_NS)
        action_ND = ActorPolicy(self.actor).act(state_NS)
        boxed_ND: Floats = np.clip(action_ND, centre_ND - self.half_width, centre_ND + self.half_width)
        return boxed_ND

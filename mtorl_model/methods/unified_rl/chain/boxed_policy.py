"""The policy that serves: an actor's action, kept inside the box around the action that the policy before it served.

Shapes: N states, S state, D action.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from mtorl_model.methods.unified_rl.networks import Actor
from mtorl_model.methods.unified_rl.policy import ActorPolicy

Floats = npt.NDArray[np.float64]

# A policy serves from the box around what served before it, so it needs the actors of all steps since the full
# training. The oldest of more are left out: they change an action only where every later actor is outside its box.
MOST_ACTORS = 32


@dataclass(frozen=True, slots=True)
class BoxedPolicy:
    """actors: of each step of progressive training, the first of which is the start; not empty.

    half_width: of the box, in each dimension.
    """

    actors: tuple[Actor, ...]
    half_width: float

    @property
    def actor(self) -> Actor:
        """The newest actor."""
        return self.actors[-1]

    def followed_by(self, actor: Actor) -> "BoxedPolicy":
        """The policy of an actor that was trained around this policy."""
        return BoxedPolicy((*self.actors, actor)[-MOST_ACTORS:], self.half_width)

    def act(self, state_NS: Floats) -> Floats:
        """[N, D]: the action in each state, -1 to 1."""
        return self.served(state_NS)[0]

    def served(self, state_NS: Floats) -> tuple[Floats, Floats]:
        """The action in each state, and the behaviour policy's action, the centre of the box; [N, D] both.

        The start is its own behaviour policy.
        """
        first_ND, *later = (ActorPolicy(actor).act(state_NS) for actor in self.actors)
        centre_ND = reduce(self._boxed, later[:-1], first_ND)
        return (self._boxed(centre_ND, later[-1]) if later else centre_ND), centre_ND

    def _boxed(self, centre_ND: Floats, action_ND: Floats) -> Floats:
        boxed_ND: Floats = np.clip(action_ND, centre_ND - self.half_width, centre_ND + self.half_width)
        return boxed_ND

"""Progressive training (equation 7): rounds of exploring around the policy, learning from all of it, and moving on."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mtorl_model.methods.unified_rl.config import FusionConfig
from mtorl_model.methods.unified_rl.learner import FusionLearner
from mtorl_model.methods.unified_rl.policy import ActorPolicy
from mtorl_model.methods.unified_rl.transitions import Transitions

Floats = npt.NDArray[np.float64]
Policy = Callable[[Floats], Floats]  # states [N, S] to actions [N, D]
Explore = Callable[[int, Policy], Transitions]  # a round and its behaviour policy to the sessions explored around it


def progressive_rounds(
    config: FusionConfig,
    explore: Explore,
    rounds: int,
    *,
    state: int,
    actions: int,
    groups: int,
) -> Iterator[FusionLearner]:
    """The learner after each round. The first behaviour policy is the action 0, equal weights.

    Each round learns from the sessions of that round alone, as in the paper: only these were explored in today's box.
    """
    champion: ActorPolicy | None = None
    for number in range(rounds):
        log = explore(number, behaviour_policy(champion, actions))
        champion = learner = FusionLearner(
            replace(config, seed=config.seed + number), state=state, actions=actions, groups=groups,
            previous=champion.actor if champion else None,
        )  # fmt: skip
        learner.fit(log)
        yield learner


def behaviour_policy(champion: ActorPolicy | None, actions: int) -> Policy:
    """The policy around which the next round explores: today's champion, and equal weights before there is one."""
    return champion.act if champion else equal_weights(actions)


def equal_weights(actions: int) -> Policy:
    """The policy whose action is 0 in every state: all powers 1 and equal biases."""
    return lambda state_NS: np.zeros((len(state_NS), actions))

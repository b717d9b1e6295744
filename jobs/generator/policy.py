"""The logging policies behind a generated log, with known propensities for every channel."""

from dataclasses import dataclass

import numpy as np

from jobs.generator.behaviour import NO_CHANNEL, BehaviourModel, Floats, State


@dataclass(frozen=True, slots=True, eq=False)
class LoggingPolicy:
    """pi(c) = stickiness [c = previous] + (1 - stickiness) softmax_c(log share_c + greed A_c).

    With neither greed nor stickiness it draws by the shares alone. A user's first exposure has no previous channel.
    """

    share_C: Floats
    greed: float = 0.0
    stickiness: float = 0.0

    def probabilities(self, model: BehaviourModel, state: State) -> Floats:
        """[users, channels]: the probability that the policy shows that channel now; rows sum to 1."""
        weight_UC = self.share_C * np.exp(self.greed * model.affinity(state))
        propensity_UC = weight_UC / weight_UC.sum(axis=1, keepdims=True)
        repeaters_U = np.flatnonzero(state.previous_U != NO_CHANNEL)
        propensity_UC[repeaters_U] *= 1 - self.stickiness
        propensity_UC[repeaters_U, state.previous_U[repeaters_U]] += self.stickiness
        return propensity_UC

"""Logged steps of sessions, from which a fusion policy is learned.

Shapes: N transitions, S size of a state, D dimensions of an action, Q groups of rewards.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Transitions:
    """A step is one request: a state, an action, the rewards of the list that the action ranked.

    state_NS, action_ND; reward_NQ: at least 0, because the penalty of equation 6 lowers only values above 0.
    centre_ND: the behaviour policy's action, the centre of the box from which the action was drawn.
    next_N: the row of the same session's next step; -1 at a session's last step.

    Raises ValueError for a negative reward, and if a next step is out of range.
    """

    state_NS: Floats
    action_ND: Floats
    reward_NQ: Floats
    centre_ND: Floats
    next_N: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if (self.reward_NQ < 0).any():
            raise ValueError("a reward is negative: let a bad outcome enter as the absence of a good one")
        if len(self.next_N) and not -1 <= self.next_N.min() <= self.next_N.max() < len(self.next_N):
            raise ValueError("a next step is not a row")

    def __len__(self) -> int:
        return len(self.next_N)

    def returns(self, discount: float) -> Floats:
        """[N, Q]: the discounted sum of the rewards from each step to the end of its session (equation 2).

        The steps of a session must be in their order.
        """
        return_NQ = self.reward_NQ.copy()
        for row in range(len(self) - 1, -1, -1):
            if self.next_N[row] >= 0:
                return_NQ[row] += discount * return_NQ[self.next_N[row]]
        return return_NQ

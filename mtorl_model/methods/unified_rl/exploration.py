"""Exploration as it is served (equation 3): an action from the box around the champion's, with its propensity.

Shapes: N requests, S state, D action.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mtorl_model.methods.common.keyed_draws import uniform_draws
from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.config import FusionConfig
from mtorl_model.methods.unified_rl.policy import ActorPolicy
from mtorl_model.methods.unified_rl.progressive import Policy, behaviour_policy

Floats = npt.NDArray[np.float64]


class Explored(NamedTuple):
    """The columns to log. centre_ND: the behaviour policy's action. propensity_N: the density of action_ND."""

    centre_ND: Floats
    action_ND: Floats
    propensity_N: Floats


@dataclass(frozen=True, slots=True)
class ExploringPolicy:
    """The behaviour policy of a day, as handed to serving, and the box in which its actions may be varied."""

    policy: Policy
    box: Box

    @classmethod
    def next_day(cls, champion: ActorPolicy | None, config: FusionConfig, actions: int) -> Self:
        """For the day after this champion was trained; without a champion, equal weights."""
        return cls(behaviour_policy(champion, actions), Box(config.half_width, config.penalty_scale))

    def explore(self, state_NS: Floats, request_id: pa.Array, day: str) -> Explored:
        """An action for each request, drawn by its id and the day, so that a request served again gets the same.

        day: YYYY-MM-DD. Log all three columns with the exposure: the next day's training needs the centres of the
        boxes, and the evaluation of a policy the propensities.
        """
        centre_ND = self.policy(state_NS)
        draws = [uniform_draws(request_id, f"box {d:02d} {day[2:]}-") for d in range(centre_ND.shape[1])]
        action_ND = self.box.placed(centre_ND, np.column_stack(draws))
        return Explored(centre_ND, action_ND, self.box.density(centre_ND))


def are_explored(log: Explored, box: Box) -> npt.NDArray[np.bool_]:
    """[N]: whether a logged row can come from exploration in this box: its action, and its propensity."""
    expected_N = box.density(log.centre_ND)
    has_propensity_N = np.isclose(log.propensity_N, expected_N, rtol=1e-6, atol=0.0)
    plausible_N: npt.NDArray[np.bool_] = box.contains(log.action_ND, log.centre_ND) & has_propensity_N
    return plausible_N

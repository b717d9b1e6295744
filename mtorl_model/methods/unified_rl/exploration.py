"""Exploration as it is served (equation 3): an action from the box around the policy's, with its propensity.

Shapes: N requests, D action.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mtorl_model.methods.common.keyed_draws import uniform_draws
from mtorl_model.methods.unified_rl.box import Box

Floats = npt.NDArray[np.float64]


class Explored(NamedTuple):
    """action_ND: what is served. propensity_N: the density with which it was drawn."""

    action_ND: Floats
    propensity_N: Floats


def explore(centre_ND: Floats, box: Box, request_id: pa.Array, day: str) -> Explored:
    """An action for each request, drawn by its id and the day, so that a request served again gets the same.

    centre_ND: the policy's actions, the centres of the boxes. day: YYYY-MM-DD.
    """
    draws = [uniform_draws(request_id, f"box {d:02d} {day[2:]}-") for d in range(centre_ND.shape[1])]
    return Explored(box.placed(centre_ND, np.column_stack(draws)), box.density(centre_ND))

"""The budget of methods that price costs: no more a step than the log spent, by the mean cost of each channel.

A = channels, N labels.
"""

from collections.abc import Callable

import numpy as np

from mtorl_model.data.windows.store import WindowStore
from mtorl_model.methods.baselines.shared.transitions import gains_and_costs
from mtorl_model.methods.common.networks.step_losses import known_action
from mtorl_model.methods.method import Floats
from schemas.tables.feature_spec import FeatureSpec

_WINDOWS_AT_ONCE = 4096


def channel_costs(train: WindowStore, spec: FeatureSpec) -> tuple[Floats, float]:
    """The mean cost of each channel, [A], and of all labels, the budget; 0 for a channel without a label.

    The cost of another channel for a user is not in a log, so the channel's mean counts for all users.
    """
    count_A, cost_A = np.zeros(len(spec.channels)), np.zeros(len(spec.channels))
    for batch in train.in_order(_WINDOWS_AT_ONCE):
        known_BL, action_BL = known_action(batch)
        _, cost_BL = gains_and_costs(batch, spec)
        np.add.at(count_A, action_BL[known_BL].numpy(), 1.0)
        np.add.at(cost_A, action_BL[known_BL].numpy(), cost_BL[known_BL].double().numpy())
    return cost_A / np.maximum(count_A, 1.0), float(cost_A.sum() / max(count_A.sum(), 1.0))


def least_price(spend: Callable[[float], float], budget: float, highest: float, rounds: int = 12) -> float:
    """The least price in [0, highest] at which the spend is within the budget, by bisection; highest if no price is.

    spend: falls with the price. The result is within highest / 2 ** rounds above the least price.
    """
    if spend(0.0) <= budget:
        return 0.0
    low, high = 0.0, highest
    for _ in range(rounds):
        middle = (low + high) / 2
        low, high = (low, middle) if spend(middle) <= budget else (middle, high)
    return high

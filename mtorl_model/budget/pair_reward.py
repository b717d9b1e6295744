"""What one (user, channel) pair is expected to bring and to cost.

The published model predicts a reward per user, not per channel: equation 12 reads the state before the channel is
chosen, so its prediction is the mean over the channels that the log would have chosen. The pair's own value is
composed of three things that are known at that moment, all of them counted before the exposure:

    base    m_uc = p_u lift_c / sum_a pi_u(a) lift_a     predicted click p_u, spread over the channels by the channel
                                                         level; the mean over the user's policy pi_u is p_u again
    record  p_uc = (k_uc + kappa m_uc) / (n_uc + kappa)  the user's own clicks k in n exposures of that channel,
                                                         with the base as a prior that weighs kappa exposures
    gains   r_uc = r_u p_uc / p_u                        every predicted gain moves with the click

That is a composition, not a learned function of the pair: it says nothing of channels that suit a user who has never
seen them. Costs are the channel's means with and without a click, weighted by p_uc.

Shapes: U users, A actions (channels), G gains.
"""

import numpy as np

from mtorl_model.budget.channel_level import ChannelLevel
from mtorl_model.budget.money import Floats, Ints

KAPPA = 10.0  # exposures that the prior weighs
_LEAST = 1e-12


def pair_click(
    click_U: Floats, policy_UA: Floats, lift_A: Floats, shown_UA: Ints, clicked_UA: Ints, kappa: float = KAPPA
) -> Floats:
    """[U, A]: p_uc. click_U: the predicted click, in [0, 1]; shown_UA, clicked_UA: the user's record by channel."""
    usual_U = np.maximum(policy_UA @ lift_A, _LEAST)
    base_UA = np.minimum((click_U / usual_U)[:, None] * lift_A, 1.0)
    click_UA: Floats = (clicked_UA + kappa * base_UA) / (shown_UA + kappa)
    return click_UA


def pair_reward(reward_U: Floats, click_U: Floats, click_UA: Floats) -> Floats:
    """[U, A]: the expected reward of each pair; reward_U is the fused prediction of the user, click_U its click."""
    reward_UA: Floats = (reward_U / np.maximum(click_U, _LEAST))[:, None] * click_UA
    return reward_UA


def pair_cost_nano(click_UA: Floats, level: ChannelLevel) -> Ints:
    """[U, A]: the expected cost in nano."""
    cost_UA = level.cost_A + click_UA * (level.cost_gained_A - level.cost_A)
    cost_nano_UA: Ints = np.rint(np.maximum(cost_UA, 0.0)).astype(np.int64)
    return cost_nano_UA

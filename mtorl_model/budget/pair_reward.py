"""The expected reward and cost of a (user, channel) pair.

The published model predicts one reward per user, not one per channel: equation 12 reads the state before the channel is
chosen, so its prediction is the mean over the channels that the log would have chosen. The value of a pair is composed
from three parts. All of them are known before the exposure:

    base    odds(m_uc) = odds(p_u) lift_c / exp(sum_a pi_u(a) log lift_a)
            the predicted click p_u, moved by the lift of the channel relative to the channels that the user's policy
            pi_u would have chosen; in odds, so that a good channel of a good user stays below 1
    record  p_uc = (k_uc + kappa m_uc) / (n_uc + kappa)
            the user's own k clicks in n exposures in that channel, with the base as a prior of kappa exposures
    gains   r_uc = min(r_u p_uc / p_u, 1)
            every predicted gain moves in proportion to the click

kappa was chosen on simulated users who are in no comparison (of the values 1.5 to 40, smaller was better, down to 3).
The composition is not learned: it cannot predict that a channel suits a user who has never seen it. Costs are the
channel's mean costs with and without a click, weighted by p_uc.

Shapes: U users, A actions (channels).
"""

import numpy as np

from mtorl_model.data.money import Floats, Ints
from mtorl_model.inference.channel_level import ChannelLevel

KAPPA = 3.0  # exposures that the prior is worth
_EPSILON = 1e-9


def pair_click(
    click_U: Floats, policy_UA: Floats, lift_A: Floats, exposures_UA: Ints, clicks_UA: Ints, kappa: float = KAPPA
) -> Floats:
    """[U, A]: p_uc. click_U: the predicted click, in [0, 1]; exposures_UA, clicks_UA: the user's record."""
    log_lift_A = np.log(np.maximum(lift_A, _EPSILON))
    click_U = np.clip(click_U, _EPSILON, 1 - _EPSILON)
    log_odds_UA = (np.log(click_U / (1 - click_U)) - policy_UA @ log_lift_A)[:, None] + log_lift_A
    base_UA = 1.0 / (1.0 + np.exp(-log_odds_UA))
    click_UA: Floats = (clicks_UA + kappa * base_UA) / (exposures_UA + kappa)
    return click_UA


def pair_reward(reward_U: Floats, click_U: Floats, click_UA: Floats) -> Floats:
    """[U, A]: the expected reward of each pair. reward_U: the fused prediction; click_U: the predicted click.

    At most 1, like every fused reward: with a tiny predicted click, the user's record could multiply it beyond.
    """
    reward_UA: Floats = np.minimum((reward_U / np.maximum(click_U, _EPSILON))[:, None] * click_UA, 1.0)
    return reward_UA


def pair_cost_nano(click_UA: Floats, level: ChannelLevel) -> Ints:
    """[U, A]: the expected cost in nano."""
    cost_UA = level.cost_A + click_UA * (level.cost_gained_A - level.cost_A)
    cost_nano_UA: Ints = np.rint(np.maximum(cost_UA, 0.0)).astype(np.int64)
    return cost_nano_UA

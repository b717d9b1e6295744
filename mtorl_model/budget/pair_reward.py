"""What one (user, channel) pair is expected to bring and to cost.

The published model predicts a reward per user, not per channel: equation 12 reads the state before the channel is
chosen, so its prediction is the mean over the channels that the log would have chosen. The pair's own value is
composed of three things that are known at that moment, all of them counted before the exposure:

    base    odds(m_uc) = odds(p_u) lift_c / exp(sum_a pi_u(a) log lift_a)
            the predicted click p_u, moved by what the channel level thinks of the channel, against the channels that
            the user's policy pi_u would have chosen; as odds, so that a good channel of a good user stays below 1
    record  p_uc = (k_uc + kappa m_uc) / (n_uc + kappa)
            the user's own clicks k in n exposures of that channel, with the base as a prior that weighs kappa exposures
    gains   r_uc = min(r_u p_uc / p_u, 1)
            every predicted gain moves with the click

kappa was chosen on simulated users who are in no comparison (1.5 to 40 were tried: the smaller, the better, down to 3).
That is a composition, not a learned function of the pair: it says nothing of channels that suit a user who has never
seen them. Costs are the channel's means with and without a click, weighted by p_uc.

Shapes: U users, A actions (channels), G gains.
"""

import numpy as np

from mtorl_model.data.money import Floats, Ints
from mtorl_model.inference.channel_level import ChannelLevel

KAPPA = 3.0  # exposures that the prior weighs
_LEAST = 1e-9


def pair_click(
    click_U: Floats, policy_UA: Floats, lift_A: Floats, shown_UA: Ints, clicked_UA: Ints, kappa: float = KAPPA
) -> Floats:
    """[U, A]: p_uc. click_U: the predicted click, in [0, 1]; shown_UA, clicked_UA: the user's record by channel."""
    log_lift_A = np.log(np.maximum(lift_A, _LEAST))
    click_U = np.clip(click_U, _LEAST, 1 - _LEAST)
    log_odds_UA = (np.log(click_U / (1 - click_U)) - policy_UA @ log_lift_A)[:, None] + log_lift_A
    base_UA = 1.0 / (1.0 + np.exp(-log_odds_UA))
    click_UA: Floats = (clicked_UA + kappa * base_UA) / (shown_UA + kappa)
    return click_UA


def pair_reward(reward_U: Floats, click_U: Floats, click_UA: Floats) -> Floats:
    """[U, A]: the expected reward of each pair; reward_U is the fused prediction of the user, click_U its click.

    At most 1, as every fused reward: the record of a user whose predicted click is tiny would multiply it beyond.
    """
    reward_UA: Floats = np.minimum((reward_U / np.maximum(click_U, _LEAST))[:, None] * click_UA, 1.0)
    return reward_UA


def pair_cost_nano(click_UA: Floats, level: ChannelLevel) -> Ints:
    """[U, A]: the expected cost in nano."""
    cost_UA = level.cost_A + click_UA * (level.cost_gained_A - level.cost_A)
    cost_nano_UA: Ints = np.rint(np.maximum(cost_UA, 0.0)).astype(np.int64)
    return cost_nano_UA

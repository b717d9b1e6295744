"""The reward that a ranking would have had on lists that were shown, and transitions made of it.

These logs have neither fusion weights nor lists of candidates. A replay ranks the exposures that were shown: the reward
of an action at a request is that of the top of its list (equation 2), on average over all lengths of the top. It
measures neither candidates that were not shown nor the rest of the session, so a replayed request is a last step.

The reward is counted from that of the behaviour policy's ranking of the same list. The best action does not change, but
the differences between lists disappear, which are a hundred times as large as those between actions.

Shapes: R requests, L places of a list, I objectives, Q groups of rewards, D action, K actions for a request.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.chain.requests import Requests
from mtorl_model.methods.unified_rl.fusion import log_scores
from mtorl_model.methods.unified_rl.transitions import Transitions

Floats = npt.NDArray[np.float64]
Policy = Callable[[Floats], Floats]  # states [R, S] to actions [R, D]
_LISTS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class ShownLists:
    """Requests whose list can be ranked: at least two exposures with unequal rewards.

    rows_R: their numbers among all requests. first_R: the rows of their first exposures. predictions_RLI and reward_RLQ
    are 0 in empty places.
    """

    rows_R: npt.NDArray[np.int64]
    first_R: npt.NDArray[np.int64]
    state_RS: Floats
    predictions_RLI: Floats
    reward_RLQ: Floats
    is_shown_RL: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows_R)


def shown_lists(requests: Requests, state_RS: Floats, predictions_NI: Floats, reward_NQ: Floats) -> ShownLists:
    """The lists that can be ranked."""
    is_shown_RL = requests.list_RL >= 0
    reward_RLQ = np.where(is_shown_RL[..., None], reward_NQ[requests.list_RL], 0.0)
    highest_RQ = np.where(is_shown_RL[..., None], reward_RLQ, -np.inf).max(axis=1)
    lowest_RQ = np.where(is_shown_RL[..., None], reward_RLQ, np.inf).min(axis=1)
    rows_R = np.flatnonzero((highest_RQ > lowest_RQ).any(axis=1))
    is_shown_RL = is_shown_RL[rows_R]
    predictions_RLI = np.where(is_shown_RL[..., None], predictions_NI[requests.list_RL[rows_R]], 0.0)
    return ShownLists(
        rows_R, requests.first_R[rows_R], state_RS[rows_R], predictions_RLI, reward_RLQ[rows_R], is_shown_RL
    )


def ranked_reward(lists: ShownLists, action_RD: Floats) -> Floats:
    """[R, Q]: the reward of the top of the list per exposure shown, on average over tops of 0 to n - 1 exposures.

    An exposure counts with the share of the others that are ranked below it; ties count a half.
    """
    parts = [
        _ranked_reward(lists.predictions_RLI[part], lists.reward_RLQ[part], lists.is_shown_RL[part], action_RD[part])
        for part in (slice(start, start + _LISTS_AT_ONCE) for start in range(0, len(lists), _LISTS_AT_ONCE))
    ]
    return np.concatenate(parts) if parts else np.zeros((0, lists.reward_RLQ.shape[-1]))


def explored(lists: ShownLists, policy: Policy, box: Box, draws: int, seed: int) -> Transitions:
    """`draws` explored actions for each list, uniform in the box around the policy's action, with their rewards.

    The groups' rewards are raised by the largest possible loss, so that they are at least 0.
    """
    centre_RD = policy(lists.state_RS)
    rng = np.random.default_rng(seed)
    reference_RQ = ranked_reward(lists, centre_RD)
    largest_loss_Q = lists.reward_RLQ.max(axis=(0, 1), initial=0.0)
    parts = []
    for _ in range(draws):
        action_RD = box.explored(centre_RD, rng)
        parts.append((action_RD, largest_loss_Q + ranked_reward(lists, action_RD) - reference_RQ))
    action_ND, reward_NQ = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    last_N = np.full(len(action_ND), -1, np.int64)
    return Transitions(
        np.tile(lists.state_RS, (draws, 1)), action_ND, reward_NQ, np.tile(centre_RD, (draws, 1)), last_N
    )


def _ranked_reward(
    predictions_RLI: Floats, reward_RLQ: Floats, is_shown_RL: npt.NDArray[np.bool_], action_RD: Floats
) -> Floats:
    score_RL = log_scores(predictions_RLI, action_RD)
    difference_RLL = score_RL[:, :, None] - score_RL[:, None, :]
    ranks_higher_RLL = (np.sign(difference_RLL) + 1.0) / 2.0 * is_shown_RL[:, None, :]
    rivals_R = is_shown_RL.sum(axis=1) - 1.0
    # An exposure ties with itself, which counts a half.
    share_RL = (ranks_higher_RLL.sum(axis=2) - 0.5) / rivals_R[:, None]
    reward_RQ: Floats = (reward_RLQ * (share_RL * is_shown_RL)[..., None]).sum(axis=1) / (rivals_R + 1.0)[:, None]
    return reward_RQ

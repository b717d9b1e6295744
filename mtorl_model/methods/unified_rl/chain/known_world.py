"""A tiny world whose best fusion is known: whether the learner, with its settings, finds weights that earn more.

The users of one half act on the first of two objectives only, those of the other half on the second, and the
predictions are right. So the best action in the box raises the power of a user's own objective by the half width and
lowers the other one. Equal weights earn less. This shows whether settings, code and libraries still learn. It does
not test a policy that was learned from a log, which cannot act here: it reads other states and has other objectives.

Shapes: R requests, L places of a list, I objectives, Q groups of rewards, D action.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.chain.boxed_policy import BoxedPolicy
from mtorl_model.methods.unified_rl.chain.replay import ShownLists, explored, ranked_reward
from mtorl_model.methods.unified_rl.config import FusionConfig
from mtorl_model.methods.unified_rl.learner import FusionLearner
from mtorl_model.methods.unified_rl.networks import Actor
from mtorl_model.methods.unified_rl.progressive import equal_weights

Floats = npt.NDArray[np.float64]

LEAST_SHARE = 0.2  # of the gain of the best action in the box over equal weights; the presets reach .9
STEPS, MOST_CRITICS = 200, 8  # of the learner, so that the preset `paper` takes seconds as well
_REQUESTS, _LIST_LENGTH, _OBJECTIVES, _DRAWS = 500, 6, 2, 2


def faults_of_learner(config: FusionConfig) -> list[str]:
    """A sentence if a learner with these settings does not find better weights."""
    share = gained_share(config)
    if share >= LEAST_SHARE:  # False for NaN
        return []
    return [
        f"in a world whose best fusion weights are known, the learner reaches {share:.0%} of their gain over equal "
        f"weights; {LEAST_SHARE:.0%} is expected"
    ]


def gained_share(config: FusionConfig) -> float:
    """The learned policy's gain over equal weights, as a share of that of the best action in the box.

    Below 0 it earns less than equal weights; NaN if the learner has diverged.
    """
    config = replace(config, steps=STEPS, critics=min(config.critics, MOST_CRITICS))
    train_lists, test_lists = _lists(seed=0), _lists(seed=1)
    actions = 2 * _OBJECTIVES
    box, equal = Box(config.half_width, config.penalty_scale), equal_weights(actions)
    learner = FusionLearner(config, state=1, actions=actions, groups=_OBJECTIVES, previous=_at_equal_weights(config))
    learner.fit(explored(train_lists, equal, box, _DRAWS, config.seed))
    policy = BoxedPolicy((_at_equal_weights(config), learner.actor), config.half_width)
    state_RS = test_lists.state_RS
    actions_of_policies = (policy.act(state_RS), equal(state_RS), _best_actions(state_RS, config.half_width))
    earned, by_equal, by_best = (
        float(ranked_reward(test_lists, action_RD).sum(axis=1).mean()) for action_RD in actions_of_policies
    )
    return (earned - by_equal) / (by_best - by_equal)


def _lists(seed: int) -> ShownLists:
    """Every second request belongs to a user who acts on the first objective, with the state 1; the rest have -1."""
    rng = np.random.default_rng(seed)
    row_R = np.arange(_REQUESTS)
    predictions_RLI = rng.uniform(0.05, 0.95, (_REQUESTS, _LIST_LENGTH, _OBJECTIVES))
    acts_on_RI = (row_R % _OBJECTIVES)[:, None] == np.arange(_OBJECTIVES)
    return ShownLists(
        row_R, row_R, np.where(acts_on_RI[:, :1], 1.0, -1.0), predictions_RLI, predictions_RLI * acts_on_RI[:, None, :],
        np.ones((_REQUESTS, _LIST_LENGTH), np.bool_),
    )  # fmt: skip


def _best_actions(state_RS: Floats, half_width: float) -> Floats:
    """[R, D]: powers first, then biases, as in fusion.py."""
    raised_R = np.sign(state_RS[:, 0]) * half_width
    return np.stack([raised_R, -raised_R, -raised_R, raised_R], axis=1)


def _at_equal_weights(config: FusionConfig) -> Actor:
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        actor = Actor(1, 2 * _OBJECTIVES, config.hidden)
    actor.start_at(torch.zeros(2 * _OBJECTIVES))
    return actor

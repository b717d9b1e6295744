"""One action for all users: the one with the largest MTF-GAUC of training users, by an evolution strategy."""

import numpy as np
import numpy.typing as npt
from cmaes import CMA

from mtorl_model.methods.unified_rl.chain.user_pairs import UserPairs
from mtorl_model.methods.unified_rl.fusion import log_scores

Floats = npt.NDArray[np.float64]

_GENERATIONS, _GENERATION = 40, 16


def fit_static_action(pairs: UserPairs, predictions_NI: Floats, seed: int) -> Floats:
    """[D]: the best of the actions that the strategy tries, and of equal weights."""
    actions = 2 * predictions_NI.shape[1]
    optimiser = CMA(
        mean=np.zeros(actions), sigma=0.3, bounds=np.tile([-1.0, 1.0], (actions, 1)), population_size=_GENERATION,
        seed=seed,
    )  # fmt: skip
    best_D = np.zeros(actions)
    best_share = pairs.ordered_share(log_scores(predictions_NI, best_D))
    for _ in range(_GENERATIONS):
        tried = []
        for _ in range(_GENERATION):
            action_D = optimiser.ask()
            share = pairs.ordered_share(log_scores(predictions_NI, action_D))
            tried.append((action_D, -share))
            if share > best_share:
                best_D, best_share = action_D, share
        optimiser.tell(tried)
    return best_D

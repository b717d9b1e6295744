"""The order of a user's exposures by a score, as MTF-GAUC (equation 8) measures it, fast enough to be an objective.

evaluation/fusion_metrics.py has the same figure with its interval over users.

Shapes: N exposures, P pairs of exposures of a user.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_MOST_USERS = 20_000  # drawn, if there are more
_MOST_EXPOSURES = 60  # of a user, the first ones


class UserPairs:
    """Pairs of a user's exposures, one with the label and one without, weighted as in MTF-GAUC."""

    def __init__(self, user_N: npt.NDArray[np.int64], label_N: npt.NDArray[np.bool_], weight_N: Floats) -> None:
        """The rows are sorted by user. weight_N: the reward of an exposure plus 1."""
        users, start_U = np.unique(user_N, return_index=True)
        end_U = np.append(start_U[1:], len(user_N))
        chosen_U = np.random.default_rng(0).permutation(len(users))[:_MOST_USERS]
        no_row = np.zeros(0, np.int64)
        labelled, unlabelled, pair_weight = [no_row], [no_row], [np.zeros(0)]
        for start, end in zip(start_U[chosen_U], end_U[chosen_U], strict=True):
            rows = np.arange(start, min(end, start + _MOST_EXPOSURES))
            positive, negative = rows[label_N[rows]], rows[~label_N[rows]]
            if len(positive) and len(negative):
                labelled.append(np.repeat(positive, len(negative)))
                unlabelled.append(np.tile(negative, len(positive)))
                product = np.outer(weight_N[positive], weight_N[negative]).ravel()
                pair_weight.append(product / product.sum() * weight_N[rows].sum())
        self._labelled_P, self._unlabelled_P = np.concatenate(labelled), np.concatenate(unlabelled)
        self._weight_P = np.concatenate(pair_weight)

    def ordered_share(self, score_N: Floats) -> float:
        """The weighted share of the pairs that the score orders rightly; ties count a half. .5 without pairs."""
        if not len(self._weight_P):
            return 0.5
        rightly_P = (np.sign(score_N[self._labelled_P] - score_N[self._unlabelled_P]) + 1.0) / 2.0
        return float(np.average(rightly_P, weights=self._weight_P))

"""The published metrics of a channel policy: macro means at each position of a window, averaged over the positions.

Shapes: W windows of L steps.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_fscore_support

SCORES = ("f1_macro", "precision_macro", "recall_macro")
_REPLICATES = 200

Ints = npt.NDArray[np.int64]


def position_scores(action_WL: Ints, guess_WL: Ints, label_WL: npt.NDArray[np.bool_]) -> dict[str, float]:
    """SCORES at each position that has labels, averaged over these positions."""
    by_position = [
        precision_recall_fscore_support(action_W[label_W], guess_W[label_W], average="macro", zero_division=0)[:3]
        for action_W, guess_W, label_W in zip(action_WL.T, guess_WL.T, label_WL.T, strict=True)
        if label_W.any()
    ]
    precision, recall, f1 = np.mean(by_position, axis=0)
    return dict(zip(SCORES, (float(f1), float(precision), float(recall)), strict=True))


def score_intervals(
    action_WL: Ints, guess_WL: Ints, label_WL: npt.NDArray[np.bool_], user_W: npt.NDArray[Any], seed: int
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each score, from a bootstrap over the users of the windows."""
    names, user_W = np.unique(user_W, return_inverse=True)
    windows_by_user = np.split(np.argsort(user_W, kind="stable"), np.cumsum(np.bincount(user_W))[:-1])
    rng = np.random.default_rng(seed)
    replicates = []
    for _ in range(_REPLICATES):
        rows = np.concatenate([windows_by_user[user] for user in rng.integers(0, len(names), len(names))])
        replicates.append(position_scores(action_WL[rows], guess_WL[rows], label_WL[rows]))
    bounds = {name: np.quantile([scores[name] for scores in replicates], (0.025, 0.975)) for name in SCORES}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}

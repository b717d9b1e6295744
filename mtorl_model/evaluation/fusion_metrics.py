"""How well a fused score ranks the exposures of a user: MTF-GAUC (equation 8 of UnifiedRL).

Shapes: N exposures, R replicates of a bootstrap.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.evaluation.bootstrap import UserBootstrap, quotient

Floats = npt.NDArray[np.float64]


class GroupedAUC(NamedTuple):
    """figure_R: the metric, followed by its replicates, [1 + R]. left_out: users whose labels are all equal."""

    figure_R: Floats
    users: int
    left_out: int


def mtf_gauc(store: CandidateStore, score_N: Floats, weight_I: Floats) -> GroupedAUC:
    """MTF-GAUC of a score for the rows of the store, by the contract's first objective.

    weight_I: of the objectives in the reward. Equal labels and weights give the same draws of users, so that the
    figures of two scores are paired.
    """
    weight_N = 1.0 + store.objectives_NI.astype(np.float64) @ weight_I
    return grouped_auc(store.user_N, store.objectives_NI[:, 0] > 0, score_N, weight_N)


def grouped_auc(
    user_N: npt.NDArray[Any], label_N: npt.NDArray[Any], score_N: Floats, weight_N: Floats, *, seed: int = 0
) -> GroupedAUC:
    """The mean over users of the weighted AUC within a user.

    label_N: 1 for a valid consumption, else 0. weight_N: the weight of an exposure, its reward plus 1. A user weighs as
    much as the sum of their exposures' weights; the paper does not publish this weight. The AUC of a user is the share
    of the weighted pairs (one exposure with the label, one without) that the score orders rightly; ties count a half.
    """
    order_N = np.lexsort((score_N, user_N))
    names, start_U = np.unique(user_N[order_N], return_index=True)
    auc_U = np.full(len(names), np.nan)
    user_weight_U = np.zeros(len(names))
    for user, rows in enumerate(np.split(order_N, start_U[1:])):
        auc_U[user] = _weighted_auc(label_N[rows], score_N[rows], weight_N[rows])
        user_weight_U[user] = weight_N[rows].sum()
    exists_U = np.isfinite(auc_U)
    bootstrap = UserBootstrap(names[exists_U], seed=seed)
    part_U = (auc_U * user_weight_U)[exists_U]
    sums_RK = bootstrap.sums(np.column_stack([part_U, user_weight_U[exists_U]]))
    return GroupedAUC(quotient(sums_RK[:, 0], sums_RK[:, 1]), int(exists_U.sum()), int((~exists_U).sum()))


def _weighted_auc(label_N: npt.NDArray[Any], score_N: Floats, weight_N: Floats) -> float:
    """NaN if all labels are equal. The rows are sorted by score."""
    positive_N, negative_N = weight_N * (label_N == 1), weight_N * (label_N != 1)
    pairs = positive_N.sum() * negative_N.sum()
    if not pairs:
        return float("nan")
    # The negative weight below each score, plus half of the negative weight at this score.
    level_N = rankdata(score_N, method="dense") - 1
    negative_at_level = np.bincount(level_N, weights=negative_N)
    lower_negative_N = (np.cumsum(negative_at_level) - negative_at_level / 2.0)[level_N]
    return float((positive_N * lower_negative_N).sum() / pairs)

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


def consumption_weights(objectives_NI: npt.NDArray[Any], weight_I: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """The label of MTF-GAUC, the first objective, and the weight of each exposure. weight_I: of the objectives."""
    weight_N: Floats = 1.0 + objectives_NI.astype(np.float64) @ weight_I
    return objectives_NI[:, 0] > 0, weight_N


def ranking_losses(
    user_N: npt.NDArray[Any], objectives_NI: npt.NDArray[Any], score_N: Floats, weight_I: Floats
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """For each exposure its loss, and a mask of those that count; the mean of the losses is 1 - MTF-GAUC.

    An exposure with the label counts, unless all labels of its user are equal. Its loss is the weighted share of the
    user's exposures without the label that are not ranked below it, times its part of the weights.
    """
    label_N, weight_N = consumption_weights(objectives_NI, weight_I)
    loss_N, is_counted_N = np.zeros(len(user_N)), np.zeros(len(user_N), dtype=bool)
    order_N = np.lexsort((score_N, user_N))
    _, start_U = np.unique(user_N[order_N], return_index=True)
    for rows in np.split(order_N, start_U[1:]):
        positive_N, negative_N = weight_N[rows] * label_N[rows], weight_N[rows] * ~label_N[rows]
        if positive_N.any() and negative_N.any():
            share_N = _share_ranked_lower(score_N[rows], negative_N)
            loss_N[rows] = (1.0 - share_N) * positive_N / positive_N.sum() * weight_N[rows].sum()
            is_counted_N[rows] = label_N[rows]
    total = sum_of_users(weight_N, user_N, is_counted_N)
    return loss_N * is_counted_N.sum() / max(total, 1.0), is_counted_N


def sum_of_users(weight_N: Floats, user_N: npt.NDArray[Any], is_counted_N: npt.NDArray[np.bool_]) -> float:
    """The weights of all exposures of the users with a counted exposure."""
    return float(weight_N[np.isin(user_N, user_N[is_counted_N])].sum())


def mtf_gauc(store: CandidateStore, score_N: Floats, weight_I: Floats) -> GroupedAUC:
    """MTF-GAUC of a score for the rows of the store, by the contract's first objective.

    weight_I: of the objectives in the reward. Equal labels and weights give the same draws of users, so that the
    figures of two scores are paired.
    """
    label_N, weight_N = consumption_weights(store.objectives_NI, weight_I)
    return grouped_auc(store.user_N, label_N, score_N, weight_N)


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
    if not positive_N.any() or not negative_N.any():
        return float("nan")
    return float((positive_N * _share_ranked_lower(score_N, negative_N)).sum() / positive_N.sum())


def _share_ranked_lower(score_N: Floats, weight_N: Floats) -> Floats:
    """[N]: the share of the weight with a lower score, plus half of that with the same. Rows are sorted by score."""
    level_N = rankdata(score_N, method="dense") - 1
    weight_at_level = np.bincount(level_N, weights=weight_N)
    share_N: Floats = (np.cumsum(weight_at_level) - weight_at_level / 2.0)[level_N] / weight_N.sum()
    return share_N

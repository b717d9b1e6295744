"""The calibration of channel values: a weighted logistic regression with errors that are clustered by user.

Shapes: N labels, A channels, K models, P coefficients, U users.
"""

import numpy as np
import numpy.typing as npt

from features.logistic import sigmoid
from mtorl_model.methods.method import Floats

Ints = npt.NDArray[np.int64]

# The prior of the effects d: as many labels per channel without an effect, so that a few labels do not make a channel
# the best.
PRIOR_LABELS = 100.0
_SMALLEST_SPREAD = 1e-4  # of log-odds


def calibrate(
    base_KN: Floats, action_N: Ints, personal_KN: Floats, gained_N: Floats, weight_N: Floats, user_N: Ints,
    channels: int,
) -> tuple[Floats, Floats, float]:  # fmt: skip
    """The coefficients d [A] and lambda [K] of the regression in the docstring of channel_value.py, and t.

    A channel without a label gets a lower effect than all others, so that it is never the best. A model whose personal
    part does not vary, or whose lambda would be below 0, is left out: its lambda is 0.
    """
    has_labels_A = np.bincount(action_N, minlength=channels) > 0
    used = [k for k, personal_N in enumerate(personal_KN) if personal_N.std() > _SMALLEST_SPREAD]
    _, user_N = np.unique(user_N, return_inverse=True)
    while True:
        design_NP = np.column_stack([
            (base_KN - base_KN.mean(axis=1, keepdims=True)).T, np.eye(channels)[action_N][:, has_labels_A],
            *personal_KN[used],
        ])  # fmt: skip
        width = int(has_labels_A.sum())
        first = len(base_KN) + width
        penalty_PP = 1e-3 * np.eye(design_NP.shape[1])
        rate = float(np.average(gained_N, weights=weight_N))
        centring_AA = np.eye(width) - 1 / width  # the prior is about differences between channels
        penalty_PP[len(base_KN) : first, len(base_KN) : first] += PRIOR_LABELS * rate * (1 - rate) * centring_AA
        coefficient_P, covariance_PP = _weighted_logistic(design_NP, gained_N, weight_N, user_N, penalty_PP)
        lambda_K, covariance_KK = coefficient_P[first:], covariance_PP[first:, first:]
        if not (lambda_K < 0).any():
            break
        used.pop(int(lambda_K.argmin()))
    effect_A = np.full(channels, coefficient_P[len(base_KN) : first].min() - 1.0)
    effect_A[has_labels_A] = coefficient_P[len(base_KN) : first]
    shrinkage_K = np.zeros(len(personal_KN))
    shrinkage_K[used] = lambda_K
    wald = float(lambda_K @ np.linalg.solve(covariance_KK, lambda_K)) / len(used) if used else 0.0
    return effect_A, shrinkage_K, float(np.sqrt(wald))


def _weighted_logistic(
    design_NP: Floats, gained_N: Floats, weight_N: Floats, user_N: Ints, penalty_PP: Floats
) -> tuple[Floats, Floats]:
    """The coefficients and their covariance, clustered by user. penalty_PP: the curvature of the prior around 0."""
    coefficient_P = np.zeros(design_NP.shape[1])
    for _ in range(50):  # Newton's method; the loss is convex
        p_N = sigmoid(design_NP @ coefficient_P)
        slope_P = design_NP.T @ (weight_N * (p_N - gained_N)) + penalty_PP @ coefficient_P
        curvature_PP = (design_NP * (weight_N * p_N * (1 - p_N))[:, None]).T @ design_NP
        curvature_PP += penalty_PP
        step_P = np.linalg.solve(curvature_PP, slope_P)
        coefficient_P -= np.clip(step_P, -2.0, 2.0)
        if np.abs(step_P).max() < 1e-9:
            break
    score_NP = design_NP * (weight_N * (sigmoid(design_NP @ coefficient_P) - gained_N))[:, None]
    by_user_UP = np.zeros((int(user_N.max()) + 1, len(coefficient_P)))
    np.add.at(by_user_UP, user_N, score_NP)
    inverse_PP = np.linalg.inv(curvature_PP)
    return coefficient_P, inverse_PP @ (by_user_UP.T @ by_user_UP) @ inverse_PP

"""Several predictions of the same outcome as one: a weighted sum of their log-odds, fitted on validation users.

With the predictions p_k of K models, a gain has the log-odds c + sum_k w_k logit(p_k), and a channel has a probability
in proportion to prod_k p_ka^w_k (logarithmic opinion pool). The weights are at least 0 and start from equal weights,
which count as much as PRIOR_LABELS labels: with few validation users the blend is the mean. The constant c and the sum
of the weights calibrate the result.

N labels, K models, A channels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from features.logistic import log_odds, sigmoid
from mtorl_model.methods.method import Prediction

Floats = npt.NDArray[np.float64]

PRIOR_LABELS = 1000.0  # more than it seems: the labels of one user depend on each other
_SMALLEST = 1e-6  # probabilities below this one have its logarithm


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """The weights of K models for each gain and for the channel."""

    gain_GK: Floats
    constant_G: Floats
    channel_K: Floats

    @classmethod
    def equal(cls, gains: int, models: int) -> "Blend":
        """The mean of the models' log-odds."""
        return cls(np.full((gains, models), 1 / models), np.zeros(gains), np.full(models, 1 / models))

    def predict(self, predictions: Sequence[Prediction]) -> Prediction:
        """The blend of predictions that have gains; X as theirs. Without policies, its policy is None."""
        gains_KXG, policies_KXA = _gains(predictions), _policies(predictions)
        odds_XG = self.constant_G + sum(w_G * log_odds(p) for w_G, p in zip(self.gain_GK.T, gains_KXG, strict=True))
        policy_XA = _pool(self.channel_K, [_log(policy_XA) for policy_XA in policies_KXA]) if policies_KXA else None
        return Prediction(policy_XA, sigmoid(odds_XG))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays by name."""
        return {"gains": self.gain_GK, "constants": self.constant_G, "channel": self.channel_K}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> "Blend":
        """Undo `state`. Raises KeyError if an array is missing."""
        return cls(state["gains"], state["constants"], state["channel"])


def fit_blend(
    predictions: Sequence[Prediction],
    gain_NG: npt.NDArray[np.floating[Any]],
    maturity_NG: npt.NDArray[np.floating[Any]],
    action_N: npt.NDArray[np.int64],
) -> Blend:
    """The weights with the lowest log loss. maturity_NG: see delayed_feedback.py; labels with 0 are left out.

    action_N: -1 for a channel that the feature spec does not know; such a label counts for the gains alone. Models
    without policies have equal weights for the channel.
    """
    gains_KNG, policies_KNA = _gains(predictions), _policies(predictions)
    models, gains = len(predictions), gain_NG.shape[1]
    outcomes = zip(gain_NG.T.astype(np.float64), maturity_NG.T.astype(np.float64), strict=True)
    fitted = [
        _fit_gain([log_odds(p_NG[:, gain]) for p_NG in gains_KNG], gained_N, maturity_N)
        for gain, (gained_N, maturity_N) in enumerate(outcomes)
    ]
    return Blend(
        np.array([weight_K for weight_K, _ in fitted]).reshape(gains, models),
        np.array([constant for _, constant in fitted]),
        _fit_channel([_log(policy_NA[action_N >= 0]) for policy_NA in policies_KNA], action_N[action_N >= 0])
        if policies_KNA
        else np.full(models, 1 / models),
    )


def _gains(predictions: Sequence[Prediction]) -> list[Floats]:
    """The gains of the predictions. Raises TypeError if one is missing."""
    gains = [prediction.gains_XG for prediction in predictions]
    if any(gains_XG is None for gains_XG in gains):
        raise TypeError("a blended prediction lacks the gains")
    return gains  # type: ignore[return-value]


def _policies(predictions: Sequence[Prediction]) -> list[Floats]:
    """The policies of the predictions, or an empty list without any. Raises TypeError if only some are missing."""
    policies = [prediction.policy_XA for prediction in predictions if prediction.policy_XA is not None]
    if policies and len(policies) < len(predictions):
        raise TypeError("some of the blended predictions lack the policy")
    return policies


def _fit_gain(odds_KN: Sequence[Floats], gained_N: Floats, maturity_N: Floats) -> tuple[Floats, float]:
    x_NK, is_label_N = np.stack(odds_KN, axis=1), maturity_N > 0
    x_NK, gained_N, maturity_N = x_NK[is_label_N], gained_N[is_label_N], maturity_N[is_label_N]
    models = x_NK.shape[1]

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weight_K, constant = parameters[:models], parameters[models]
        p_N = sigmoid(x_NK @ weight_K + constant)
        observed_N = np.clip(maturity_N * p_N, 1e-12, 1 - 1e-12)
        total = -float(gained_N @ np.log(observed_N) + (1 - gained_N) @ np.log1p(-observed_N))
        # d/dz of -log(m p) is p - 1, and of -log(1 - m p) it is m p (1 - p) / (1 - m p).
        slope_N = np.where(gained_N > 0, p_N - 1, maturity_N * p_N * (1 - p_N) / (1 - observed_N))
        return total, np.append(slope_N @ x_NK, slope_N.sum())

    # The curvature of a label's part of the loss at the start, so that the prior counts as PRIOR_LABELS labels.
    p_N = sigmoid(x_NK.mean(axis=1))
    variance_N = p_N * (1 - p_N)
    scale = np.append(variance_N @ x_NK**2, variance_N.sum()) / max(len(x_NK), 1)
    scale = scale if len(x_NK) else np.ones(models + 1)
    start, bounds = np.append(np.full(models, 1 / models), 0.0), [(0.0, None)] * models + [(None, None)]
    fitted = _minimise(loss, start, scale, bounds)
    return fitted[:models], float(fitted[models])


def _fit_channel(log_KNA: Sequence[Floats], action_N: npt.NDArray[np.int64]) -> Floats:
    models = len(log_KNA)
    x_NKA = np.stack(log_KNA, axis=1)
    chosen_NK = np.take_along_axis(x_NKA, action_N[:, None, None], axis=2)[:, :, 0]

    def loss(weight_K: Floats) -> tuple[float, Floats]:
        policy_NA = _pool(weight_K, log_KNA)
        chosen_N = np.take_along_axis(policy_NA, action_N[:, None], axis=1)[:, 0]
        expected_NK = np.einsum("na,nka->nk", policy_NA, x_NKA)
        return -float(np.log(np.maximum(chosen_N, 1e-300)).sum()), (expected_NK - chosen_NK).sum(axis=0)

    start_K = np.full(models, 1 / models)
    policy_NA = _pool(start_K, log_KNA)
    mean_NK = np.einsum("na,nka->nk", policy_NA, x_NKA)
    square_NK = np.einsum("na,nka->nk", policy_NA, x_NKA**2)
    scale_K = (square_NK - mean_NK**2).mean(axis=0) if len(action_N) else np.ones(models)
    return _minimise(loss, start_K, scale_K, [(0.0, None)] * models)


def _minimise(
    loss: Callable[[Floats], tuple[float, Floats]], start_P: Floats, scale_P: Floats, bounds: list[tuple[Any, Any]]
) -> Floats:
    """The parameters with the lowest loss and squared distance from the start, weighted by scale and PRIOR_LABELS."""

    def penalised(parameters: Floats) -> tuple[float, Floats]:
        value, slope_P = loss(parameters)
        distance_P = parameters - start_P
        return value + PRIOR_LABELS / 2 * float(scale_P @ distance_P**2), slope_P + PRIOR_LABELS * scale_P * distance_P

    fitted_P: Floats = minimize(penalised, start_P, jac=True, bounds=bounds, method="L-BFGS-B").x
    return fitted_P


def _pool(weight_K: Floats, log_KXA: Sequence[Floats]) -> Floats:
    score_XA = sum(weight * log_XA for weight, log_XA in zip(weight_K, log_KXA, strict=True))
    score_XA = np.exp(score_XA - score_XA.max(axis=-1, keepdims=True))
    policy_XA: Floats = score_XA / score_XA.sum(axis=-1, keepdims=True)
    return policy_XA


def _log(probability_X: Floats) -> Floats:
    return np.log(np.maximum(probability_X, _SMALLEST))

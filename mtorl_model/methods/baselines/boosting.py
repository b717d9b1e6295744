"""What the model is to beat, measured on the same labels: gradient boosting on the model's own inputs.

The rules of thumb need no fitting: the most popular and the best fixed channel are in the champion's initial policy.

N labels, A channels, G gains, F features.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from mtorl_model.data.window_store import WindowStore
from mtorl_model.evaluation.label_predictions import label_features

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MOST_LABELS = 200_000  # that boosting is fitted on: a bounded wait
_WINDOWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class Baselines:
    """Gradient boosting, fitted on training users."""

    labels: int  # that gradient boosting was fitted on
    _channel: HistGradientBoostingClassifier
    _gains: tuple[HistGradientBoostingClassifier | float, ...]  # a rate where the gain never varies

    def guess_channel(self, features_NF: npt.NDArray[np.float32], divide_by_A: Floats | None = None) -> Ints:
        """Gradient boosting's most probable channel. divide_by_A: what probabilities are divided by before, if any."""
        fitted_A = self._channel.classes_.astype(np.int64)  # a channel that no training label shows is none of them
        probability_NA = self._channel.predict_proba(features_NF)
        if divide_by_A is not None:
            probability_NA = probability_NA / divide_by_A[fitted_A]
        guess_N: Ints = fitted_A[probability_NA.argmax(axis=1)]
        return guess_N

    def predict_gain(self, gain: int, features_NF: npt.NDArray[np.float32]) -> Floats:
        """Gradient boosting's probability of that gain."""
        model = self._gains[gain]
        if isinstance(model, float):
            return np.full(len(features_NF), model)
        probability_N: Floats = model.predict_proba(features_NF)[:, 1].astype(np.float64)
        return probability_N


def fit_baselines(train: WindowStore, *, seed: int = 0) -> Baselines:
    """From at most MOST_LABELS labels of windows drawn at random; no more windows are read than hold them."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(train))
    features, actions_N, gains = [], [], []
    labels = 0
    for start in range(0, len(order), _WINDOWS_AT_ONCE):
        part = train.windows.take(np.sort(order[start : start + _WINDOWS_AT_ONCE]))
        features.append(label_features(part))
        actions_N.append(part.action_NL[part.label_NL])
        gains.append(part.gains_NLG[part.label_NL])
        labels += len(actions_N[-1])
        if labels >= MOST_LABELS:
            break
    features_NF = np.concatenate(features)[:MOST_LABELS]
    action_N = np.concatenate(actions_N)[:MOST_LABELS].astype(np.int64)
    gain_NG = np.concatenate(gains)[:MOST_LABELS]
    return Baselines(
        labels=len(action_N),
        _channel=_boosting(seed, iterations=80, rate=0.1).fit(features_NF, action_N),
        _gains=tuple(_fit_gain(features_NF, gain_N, seed) for gain_N in gain_NG.T),
    )


def _fit_gain(features_NF: Any, gain_N: Any, seed: int) -> HistGradientBoostingClassifier | float:
    rate = float(gain_N.mean())
    return _boosting(seed, iterations=120, rate=0.07).fit(features_NF, gain_N) if 0 < rate < 1 else rate


def _boosting(seed: int, iterations: int, rate: float) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=iterations, learning_rate=rate, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=5.0,
        early_stopping=False, random_state=seed,
    )  # fmt: skip

"""Gradient boosting on the inputs of a single step: a method, and the baseline of every evaluation.

The simpler baselines need no fitting: every model's initial policy has the most popular and the best fixed channel.

N labels or rows, A channels, G gains, F features.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from mtorl_model.data.batch import Batch, step_features
from mtorl_model.data.window_store import WindowStore
from mtorl_model.methods import register
from mtorl_model.methods.baselines.trees import Trees
from mtorl_model.methods.method import GAINS, POLICY, Floats, Method, MethodConfig, Prediction, Run, State

Features = npt.NDArray[np.float32]

_WINDOWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class BoostingConfig(MethodConfig):
    """The settings of the trees. The channel and the gains differ in the number of trees and in the learning rate."""

    seed: int = 0  # selects the labels to fit on if there are more than most_labels
    most_labels: int = 200_000  # upper limit of labels to fit on, which bounds the time
    channel_iterations: int = 80
    channel_rate: float = 0.1  # learning rate
    gain_iterations: int = 120
    gain_rate: float = 0.07  # learning rate
    max_leaf_nodes: int = 8
    min_samples_leaf: int = 40
    l2_regularization: float = 5.0


@register
class Boosting(Method):
    """One classifier for the channel and one for each gain. It has no fine-tuning: fitted trees do not change."""

    name = "boosting"
    predicts = frozenset({POLICY, GAINS})
    Config = BoostingConfig
    config: BoostingConfig

    labels = 0  # number of labels it was fitted on
    _channel: Trees
    _gains: tuple[Trees | float, ...]  # a rate if all labels of the gain are equal

    def fit(self, train: WindowStore, valid: WindowStore, run: Run) -> Self:
        """Fit on labels of randomly drawn windows, most_labels at most; reading stops when there are that many."""
        features_NF, action_N, gain_NG = self._drawn_labels(train)
        config = self.config
        self.labels = len(action_N)
        self._channel = Trees.from_classifier(
            classifier(config, config.channel_iterations, config.channel_rate).fit(features_NF, action_N)
        )
        self._gains = tuple(self._fit_gain(features_NF, gain_N) for gain_N in gain_NG.T)
        run.lines = [f"fitted on {self.labels:,} labels"]
        return self

    def _drawn_labels(self, train: WindowStore) -> tuple[Features, npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Features, channels and gains."""
        limit = self.config.most_labels
        order = np.random.default_rng(self.config.seed).permutation(len(train))
        features, actions_N, gains = [], [], []
        labels = 0
        for start in range(0, len(order), _WINDOWS_AT_ONCE):
            part = train.windows.take(np.sort(order[start : start + _WINDOWS_AT_ONCE]))
            features.append(part.label_features())
            actions_N.append(part.action_NL[part.label_NL])
            gains.append(part.gains_NLG[part.label_NL])
            labels += len(actions_N[-1])
            if labels >= limit:
                break
        action_N = np.concatenate(actions_N)[:limit].astype(np.int64)
        return np.concatenate(features)[:limit], action_N, np.concatenate(gains)[:limit]

    def _fit_gain(self, features_NF: Features, gain_N: Any) -> Trees | float:
        rate = float(gain_N.mean())
        if not 0 < rate < 1:
            return rate
        config = self.config
        return Trees.from_classifier(
            classifier(config, config.gain_iterations, config.gain_rate).fit(features_NF, gain_N)
        )

    def predict(self, batch: Batch) -> Prediction:
        shape = tuple(batch.valid_BL.shape)
        predicted = self.predict_features(step_features(batch, np.ones(shape, np.bool_)))
        return Prediction(*(None if rows is None else rows.reshape(*shape, -1) for rows in predicted))

    def predict_features(self, features_NF: Features) -> Prediction:
        """Predict rows of features, [N]. A channel without a training label has the probability 0."""
        policy_NA = np.zeros((len(features_NF), len(self.spec.channels)))
        policy_NA[:, self._channel.classes_C] = self._channel.probabilities(features_NF)
        gains = [self._predict_gain(model, features_NF) for model in self._gains]
        return Prediction(policy_NA, np.stack(gains, axis=1))

    def _predict_gain(self, model: Trees | float, features_NF: Features) -> Floats:
        if isinstance(model, float):
            return np.full(len(features_NF), model)
        return model.probabilities(features_NF)[:, 1]

    def state(self) -> State:
        arrays = {f"channel.{name}": array for name, array in self._channel.arrays().items()}
        for gain, model in enumerate(self._gains):
            parts = {"rate": np.array(model)} if isinstance(model, float) else model.arrays()
            arrays |= {f"gain_{gain}.{name}": array for name, array in parts.items()}
        return {**arrays, "labels": np.array(self.labels)}

    def restore(self, state: State) -> None:
        self.labels = int(state["labels"])
        self._channel = Trees.from_arrays(_part(state, "channel"))
        gains = [_part(state, f"gain_{gain}") for gain in range(len(self.spec.gains))]
        self._gains = tuple(float(g["rate"]) if "rate" in g else Trees.from_arrays(g) for g in gains)

    def summary(self) -> str:
        return f"gradient boosting on {self.labels:,} labels"


def _part(state: State, name: str) -> State:
    """The arrays of one classifier."""
    return {key.removeprefix(f"{name}."): array for key, array in state.items() if key.startswith(f"{name}.")}


def classifier(config: BoostingConfig, iterations: int, rate: float) -> HistGradientBoostingClassifier:
    """An unfitted classifier."""
    return HistGradientBoostingClassifier(
        max_iter=iterations, learning_rate=rate, max_leaf_nodes=config.max_leaf_nodes,
        min_samples_leaf=config.min_samples_leaf, l2_regularization=config.l2_regularization,
        early_stopping=False, random_state=config.seed,
    )  # fmt: skip

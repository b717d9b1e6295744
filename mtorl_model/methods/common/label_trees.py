"""Gradient boosting on the inputs of a single step: a classifier for the channel, and one for each gain.

N rows, A channels, G gains, F features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from mtorl_model.methods.common.label_rows import LabelRows
from mtorl_model.methods.common.trees import Trees
from mtorl_model.methods.method import Floats, Prediction, State
from schemas.json_config import JsonConfig

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TreesConfig(JsonConfig):
    """The settings of the trees. The channel and the gains differ in the number of trees and in the learning rate."""

    tree_seed: int = 0  # selects the labels to fit on if there are more than most_labels
    most_labels: int = 200_000  # upper limit of labels to fit on, which bounds the time
    channel_iterations: int = 80
    channel_rate: float = 0.1  # learning rate
    gain_iterations: int = 120
    gain_rate: float = 0.07  # learning rate
    max_leaf_nodes: int = 8
    min_samples_leaf: int = 40
    l2_regularization: float = 5.0


# For labels of given candidates, whose inputs tell more than those of a step before its channel is chosen. On the
# validation users of KuaiRand's standard log these trees have .004 more AUC than the ones above.
CANDIDATE_TREES = TreesConfig(gain_iterations=300, gain_rate=0.05, max_leaf_nodes=16, min_samples_leaf=100)


class ClassTrees(Protocol):
    """A fitted classifier, such as Trees."""

    @property
    def classes_C(self) -> npt.NDArray[np.int64]:
        """The classes that it was fitted on, sorted."""

    def probabilities(self, features_NF: Features) -> Floats:
        """[N, C]."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays of plain numbers by name."""


# Fits a classifier: features, classes of the rows, weights of the rows or None, config, number of iterations, rate.
FitTrees = Callable[[Features, npt.NDArray[Any], Floats | None, TreesConfig, int, float], ClassTrees]


def fit_trees(
    features_NF: Features, class_N: npt.NDArray[Any], weight_N: Floats | None, config: TreesConfig, iterations: int,
    rate: float,
) -> Trees:  # fmt: skip
    """Fit scikit-learn's gradient boosting; see FitTrees."""
    model = classifier(config, iterations, rate)
    return Trees.from_classifier(model.fit(without_empty_columns(features_NF), class_N, weight_N))


@dataclass(frozen=True, slots=True, eq=False)
class LabelTrees:
    """Fitted trees. If all labels of a gain are equal, it has a rate in place of trees; the channel likewise.

    A single channel has its index in place of trees.
    """

    channel: ClassTrees | int
    gains: tuple[ClassTrees | float, ...]
    channels: int  # A

    @classmethod
    def fit(cls, labels: LabelRows, config: TreesConfig, channels: int, fit: FitTrees = fit_trees) -> "LabelTrees":
        """Fit on the labels, each gain on those that are old enough for it; see gain_weights."""
        gains = (_fit_gain(labels, gain, config, fit) for gain in range(labels.gain_NG.shape[1]))
        return cls(_fit_channel(labels, config, fit), tuple(gains), channels)

    def policy(self, features_NF: Features) -> Floats:
        """[N, A]. A channel without a label has the probability 0."""
        policy_NA = np.zeros((len(features_NF), self.channels))
        if isinstance(self.channel, int):
            policy_NA[:, self.channel] = 1.0
        else:
            policy_NA[:, self.channel.classes_C] = self.channel.probabilities(features_NF)
        return policy_NA

    def gain_probabilities(self, features_NF: Features) -> Floats:
        """[N, G]."""
        return np.stack([_predict_gain(model, features_NF) for model in self.gains], axis=1)

    def predict(self, features_NF: Features) -> Prediction:
        """Channel and gains, [N]."""
        return Prediction(self.policy(features_NF), self.gain_probabilities(features_NF))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays by name."""
        channel = {"index": np.array(self.channel)} if isinstance(self.channel, int) else self.channel.arrays()
        arrays = {f"channel.{name}": array for name, array in channel.items()}
        for gain, model in enumerate(self.gains):
            parts = {"rate": np.array(model)} if isinstance(model, float) else model.arrays()
            arrays |= {f"gain_{gain}.{name}": array for name, array in parts.items()}
        return arrays

    @classmethod
    def from_state(
        cls, state: State, channels: int, gains: int, from_arrays: Callable[[State], ClassTrees] = Trees.from_arrays
    ) -> "LabelTrees":
        """Undo `state`. Raises KeyError if an array is missing."""
        parts = [state_part(state, f"gain_{gain}") for gain in range(gains)]
        channel = state_part(state, "channel")
        return cls(
            int(channel["index"]) if "index" in channel else from_arrays(channel),
            tuple(float(part["rate"]) if "rate" in part else from_arrays(part) for part in parts),
            channels,
        )


def _fit_channel(labels: LabelRows, config: TreesConfig, fit: FitTrees) -> ClassTrees | int:
    labels = labels.known_channels()
    channels = np.unique(labels.action_N)
    if len(channels) < 2:
        return int(channels.max(initial=0))  # without any known channel, every channel is as good as the first
    return fit(labels.feature_NF, labels.action_N, None, config, config.channel_iterations, config.channel_rate)


def _fit_gain(labels: LabelRows, gain: int, config: TreesConfig, fit: FitTrees) -> ClassTrees | float:
    weight_N = gain_weights(labels, gain)
    features_NF, gain_N = labels.feature_NF, labels.gain_NG[:, gain]
    if weight_N is not None:
        chosen_N = weight_N > 0
        features_NF, gain_N, weight_N = features_NF[chosen_N], gain_N[chosen_N], weight_N[chosen_N]
    rate = float(gain_N.mean()) if len(gain_N) else 0.0
    if not 0 < rate < 1:
        return rate
    return fit(features_NF, gain_N, weight_N, config, config.gain_iterations, config.gain_rate)


def gain_weights(labels: LabelRows, gain: int) -> Floats | None:
    """[N]: the weight of each label for a gain that may still follow; None if all gains are known.

    With maturity m and another model's prediction p, a label with the gain has the weight 1 / m, and one without it the
    probability (1 - p) / (1 - m p) that the gain never comes (Yasui et al., A feedback shift correction in predicting
    conversion rates, WWW 2020). Without a prediction, p is the share of labels with the gain. A label with m = 0 has
    no weight.
    """
    maturity_N = labels.maturity_NG[:, gain].astype(np.float64)
    if (maturity_N == 1.0).all():
        return None
    gained_N = labels.gain_NG[:, gain] > 0
    predicted = labels.prediction.gains_XG if labels.prediction else None
    p_N = np.full(len(gained_N), gained_N.mean()) if predicted is None else np.minimum(predicted[:, gain], 1 - 1e-6)
    weight_N = np.where(gained_N, 1 / np.maximum(maturity_N, 1e-3), (1 - p_N) / (1 - maturity_N * p_N))
    return np.where(maturity_N > 0, weight_N, 0.0)


def _predict_gain(model: ClassTrees | float, features_NF: Features) -> Floats:
    if isinstance(model, float):
        return np.full(len(features_NF), model)
    return model.probabilities(features_NF)[:, 1]


def state_part(state: State, name: str) -> State:
    """The arrays whose names begin with `name` and a dot, without this beginning."""
    return {key.removeprefix(f"{name}."): array for key, array in state.items() if key.startswith(f"{name}.")}


def without_empty_columns(features_NF: Features) -> Features:
    """The features to fit on, with 0 in columns that have no value at all, on which scikit-learn fails.

    On the first day of a log no item has a history, for example. Such a column is in no tree.
    """
    is_empty_F = np.isnan(features_NF).all(axis=0)
    return np.where(is_empty_F, np.float32(0.0), features_NF) if is_empty_F.any() else features_NF


def classifier(config: TreesConfig, iterations: int, rate: float) -> HistGradientBoostingClassifier:
    """An unfitted classifier."""
    return HistGradientBoostingClassifier(
        max_iter=iterations, learning_rate=rate, max_leaf_nodes=config.max_leaf_nodes,
        min_samples_leaf=config.min_samples_leaf, l2_regularization=config.l2_regularization,
        early_stopping=False, random_state=config.tree_seed,
    )  # fmt: skip

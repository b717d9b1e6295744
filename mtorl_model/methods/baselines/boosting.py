"""Gradient boosting on the inputs of a single step: a method, and the baseline of every evaluation.

The simpler baselines need no fitting: every model's initial policy has the most popular and the best fixed channel.

N rows, F features.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from mtorl_model.data.batch import Batch, step_features
from mtorl_model.data.windows.store import WindowStore
from mtorl_model.methods import register
from mtorl_model.methods.common.label_rows import LabelRows, draw_labels
from mtorl_model.methods.common.label_trees import Features, LabelTrees, TreesConfig
from mtorl_model.methods.method import GAINS, POLICY, Method, MethodConfig, Prediction, Run, State


@dataclass(frozen=True, slots=True)
class BoostingConfig(MethodConfig):
    """The settings of the trees."""

    trees: TreesConfig = field(default_factory=TreesConfig)


@register
class Boosting(Method):
    """One classifier for the channel and one for each gain. It has no fine-tuning: fitted trees do not change."""

    name = "boosting"
    predicts = frozenset({POLICY, GAINS})
    Config = BoostingConfig
    config: BoostingConfig

    labels = 0  # number of labels it was fitted on
    _trees: LabelTrees

    def fit(self, train: WindowStore, valid: WindowStore, run: Run) -> Self:
        """Fit on labels of randomly drawn windows, most_labels at most; reading stops when there are that many."""
        config = self.config.trees
        self.fit_labels(draw_labels(train, config.most_labels, config.tree_seed))
        run.lines = [f"fitted on {self.labels:,} labels"]
        return self

    def fit_trees(self, labels: LabelRows) -> LabelTrees:
        return LabelTrees.fit(labels, self.config.trees, len(self.spec.channels))

    def load_trees(self, state: State) -> LabelTrees:
        return LabelTrees.from_state(state, len(self.spec.channels), len(self.spec.gains))

    def fit_labels(self, labels: LabelRows) -> Self:
        """Fit on these labels, at most most_labels of them, drawn at random."""
        config = self.config.trees
        labels = labels.at_most(config.most_labels, config.tree_seed)
        self.labels = len(labels.action_N)
        self._trees = self.fit_trees(labels)
        return self

    def predict(self, batch: Batch) -> Prediction:
        shape = tuple(batch.valid_BL.shape)
        predicted = self.predict_features(step_features(batch, np.ones(shape, np.bool_)))
        return predicted.reshaped(shape)

    def predict_features(self, features_NF: Features) -> Prediction:
        """Predict rows of features, [N]. A channel without a training label has the probability 0."""
        return self._trees.predict(features_NF)

    def state(self) -> State:
        return {**self._trees.state(), "labels": np.array(self.labels)}

    def restore(self, state: State) -> None:
        self.labels = int(state["labels"])
        self._trees = self.load_trees(state)

    def summary(self) -> str:
        return f"gradient boosting on {self.labels:,} labels"

"""Predictions of every objective for given candidates, by gradient boosting on the candidates' inputs.

A prediction for a training user must not come from a model that was fitted on this user's outcomes: it would be better
than any prediction of a new user, and the weights that fuse it would be learned for that. So there are two models, each
fitted on half of the training users. A training user has the prediction of the model that was fitted on the other half;
any other user has the mean of both.

Shapes: N exposures, I objectives, F features.
"""

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.methods.common.label_rows import LabelRows
from mtorl_model.methods.common.label_trees import LabelTrees, TreesConfig, state_part
from mtorl_model.methods.method import Floats, State

HALVES = 2


class ObjectiveTrees:
    """The two fitted models."""

    def __init__(self, models: tuple[LabelTrees, ...]) -> None:
        self._models = models

    @classmethod
    def fit(cls, train: CandidateStore, config: TreesConfig) -> tuple[Self, Floats]:
        """The fitted models and the predictions for these training users, (N, I), in the order of the store."""
        features_NF, half_N = train.features(), half_of(train.user_N)
        models, predicted_NI = [], np.empty(train.objectives_NI.shape)
        for half in range(HALVES):
            rows = np.flatnonzero(half_N != half)
            models.append(LabelTrees.fit(_labels(train, features_NF, rows, config), config, 1))
            other_rows = np.flatnonzero(half_N == half)
            predicted_NI[other_rows] = models[-1].gain_probabilities(features_NF[other_rows])
        return cls(tuple(models)), predicted_NI

    def predict(self, store: CandidateStore) -> Floats:
        """[N, I]: for users whom the models were not fitted on."""
        features_NF = store.features()
        mean_NI: Floats = np.mean([model.gain_probabilities(features_NF) for model in self._models], axis=0)
        return mean_NI

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays by name."""
        return {
            f"half_{half}.{name}": array
            for half, model in enumerate(self._models)
            for name, array in model.state().items()
        }

    @classmethod
    def from_state(cls, state: State, objectives: int) -> Self:
        """Undo `state`. Raises KeyError if an array is missing."""
        parts = (state_part(state, f"half_{half}") for half in range(HALVES))
        return cls(tuple(LabelTrees.from_state(part, 1, objectives) for part in parts))


def half_of(user_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[N]: the half of the training users that a row belongs to, drawn by user."""
    users, index_N = np.unique(user_N, return_inverse=True)
    half_U = np.random.default_rng(0).permutation(len(users)) % HALVES
    return half_U[index_N]


def _labels(
    store: CandidateStore, features_NF: npt.NDArray[np.float32], rows: npt.NDArray[Any], config: TreesConfig
) -> LabelRows:
    """The objectives of these rows, at most most_labels of them, as the gains of label rows."""
    if len(rows) > config.most_labels:
        rows = np.sort(np.random.default_rng(config.tree_seed).choice(rows, config.most_labels, replace=False))
    objectives_NI = store.objectives_NI[rows]
    return LabelRows(
        features_NF[rows], np.zeros(len(rows), np.int64), objectives_NI, np.ones_like(objectives_NI),
        np.zeros(len(rows), np.float32), store.user_N[rows], None,
    )  # fmt: skip

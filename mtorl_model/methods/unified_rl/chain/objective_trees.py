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
from mtorl_model.methods.common.label_rows import candidate_labels
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
        known_NI = np.ones_like(train.objectives_NI)
        labels = candidate_labels(train)._replace(gain_NG=train.objectives_NI, maturity_NG=known_NI)
        half_N, models, predicted_NI = half_of(train.user_N), [], np.empty(train.objectives_NI.shape)
        for half in range(HALVES):
            fitted_labels = labels.take(half_N != half).at_most(config.most_labels, config.tree_seed)
            models.append(LabelTrees.fit(fitted_labels, config, 1))
            predicted_NI[half_N == half] = models[-1].gain_probabilities(labels.feature_NF[half_N == half])
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

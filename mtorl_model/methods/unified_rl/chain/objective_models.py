"""Predictions of every objective for given candidates, by gradient boosting or by a method on candidates.

A prediction for a training user must not come from a model that was fitted on this user's outcomes: it would be better
than any prediction of a new user, and the weights that fuse it would be learned for that. So there are two models, each
fitted on half of the training users. A training user has the prediction of the model that was fitted on the other half;
any other user has the mean of both.

A method predicts its tasks; here the objectives are its tasks, in the order of the contract. They need not imply each
other, so networks for tasks that do (ESMM, AITM) are wrong here.

Shapes: N exposures, I objectives.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.methods import METHODS
from mtorl_model.methods.common.label_rows import candidate_labels
from mtorl_model.methods.common.label_trees import LabelTrees, TreesConfig, state_part
from mtorl_model.methods.method import CANDIDATES, GAINS, Floats, Method, Run, State
from schemas.errors import UserError

HALVES = 2
BOOSTING = "boosting"  # the predictor without a method on candidates


class ObjectiveModel(Protocol):
    """A fitted model of all objectives."""

    def probabilities(self, store: CandidateStore) -> Floats:
        """[N, I]."""

    def state(self) -> State:
        """All of it as arrays by name."""


Fit = Callable[[CandidateStore], ObjectiveModel]


class ObjectiveModels:
    """The two fitted models."""

    def __init__(self, models: tuple[ObjectiveModel, ...]) -> None:
        self._models = models

    @classmethod
    def fit(cls, train: CandidateStore, fit_half: Fit) -> tuple[Self, Floats]:
        """The fitted models and the predictions for these training users, (N, I), in the order of the store."""
        half_N, models, predicted_NI = half_of(train.user_N), [], np.empty(train.objectives_NI.shape)
        for half in range(HALVES):
            other_half, rows = np.flatnonzero(half_N != half), np.flatnonzero(half_N == half)
            models.append(fit_half(train.take(other_half)))
            predicted_NI[rows] = models[-1].probabilities(train.take(rows))
        return cls(tuple(models)), predicted_NI

    def predict(self, store: CandidateStore) -> Floats:
        """[N, I]: for users whom the models were not fitted on."""
        mean_NI: Floats = np.mean([model.probabilities(store) for model in self._models], axis=0)
        return mean_NI

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays by name."""
        return {
            f"half_{half}.{name}": array
            for half, model in enumerate(self._models)
            for name, array in model.state().items()
        }

    @classmethod
    def from_state(cls, state: State, restore_half: Callable[[State], ObjectiveModel]) -> Self:
        """Undo `state`. Raises KeyError if an array is missing."""
        return cls(tuple(restore_half(state_part(state, f"half_{half}")) for half in range(HALVES)))


class BoostedObjectives:
    """Gradient boosting of the objectives."""

    def __init__(self, trees: LabelTrees) -> None:
        self._trees = trees

    @classmethod
    def fit(cls, train: CandidateStore, config: TreesConfig) -> Self:
        labels = candidate_labels(train)._replace(gain_NG=train.objectives_NI, maturity_NG=train.objective_maturity_NI)
        return cls(LabelTrees.fit(labels.at_most(config.most_labels, config.tree_seed), config, 1))

    def probabilities(self, store: CandidateStore) -> Floats:
        return self._trees.gain_probabilities(store.features())

    def state(self) -> State:
        return self._trees.state()

    @classmethod
    def from_state(cls, state: State, objectives: int) -> Self:
        """Undo `state`. Raises KeyError if an array is missing."""
        return cls(LabelTrees.from_state(state, 1, objectives))


class MethodOfObjectives:
    """A method on candidates whose tasks are the objectives, with its preset `small`."""

    def __init__(self, method: Method) -> None:
        self._method = method

    @classmethod
    def untrained(cls, name: str, dataset: str, like: Method) -> Self:
        """like: a method with the same inputs. Raises UserError if no such method predicts candidates' outcomes."""
        method = METHODS[name]
        if method.reads != CANDIDATES or GAINS not in method.predicts:
            raise UserError(f"the predictor {name} does not predict the outcomes of candidates: choose rmtl")
        created = method(method.presets(dataset)["small"], like.spec, like.initial_policy)
        created.encoding = like.encoding
        return cls(created)

    def fit(self, train: CandidateStore, valid: CandidateStore) -> Self:
        """valid: users that choose when to stop."""
        self._method.fit(_with_objectives_as_tasks(train), _with_objectives_as_tasks(valid), Run())
        return self

    def restored(self, state: State) -> Self:
        self._method.restore(state)
        return self

    def probabilities(self, store: CandidateStore) -> Floats:
        predicted = self._method.predict(store).gains_XG
        assert predicted is not None
        return predicted

    def state(self) -> State:
        return self._method.state()


def _with_objectives_as_tasks(store: CandidateStore) -> CandidateStore:
    return replace(
        store, labels_NT=store.objectives_NI, maturity_NT=store.objective_maturity_NI, task_names=store.objective_names
    )


def half_of(user_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[N]: the half of the training users that a row belongs to, drawn by user."""
    users, index_N = np.unique(user_N, return_inverse=True)
    half_U = np.random.default_rng(0).permutation(len(users)) % HALVES
    return half_U[index_N]

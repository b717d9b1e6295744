"""The labels of windows or candidates as rows of numbers, for models that treat each step independently."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.windows.store import WindowStore
from mtorl_model.methods.method import Prediction

_WINDOWS_AT_ONCE = 8192


class LabelRows(NamedTuple):
    """N labels: F features, G gains. prediction: of another model for the same labels, or None."""

    feature_NF: npt.NDArray[np.float32]  # see step_features
    action_N: npt.NDArray[np.int64]  # -1 for a channel that the feature spec does not know
    gain_NG: npt.NDArray[np.float32]
    maturity_NG: npt.NDArray[np.float32]  # probability that a gain is already in gain_NG
    propensity_N: npt.NDArray[np.float32]  # the chance with which the log drew the channel; 0 if it is unknown
    user_N: npt.NDArray[np.int64]  # a number for each user
    prediction: Prediction | None

    def take(self, rows: Any) -> "LabelRows":
        """A selection of the labels: indices, a slice or a mask."""
        chosen: dict[str, Any] = {name: array[rows] for name, array in self._asdict().items() if name != "prediction"}
        return LabelRows(**chosen, prediction=self.prediction.take(rows) if self.prediction else None)

    def at_most(self, limit: int, seed: int) -> "LabelRows":
        """All labels, or a random selection of `limit` of them in their order."""
        labels = len(self.action_N)
        if labels <= limit:
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(labels, limit, replace=False)))

    def known_channels(self) -> "LabelRows":
        """The labels whose channel the feature spec knows."""
        return self.take(self.action_N >= 0)


def candidate_labels(candidates: CandidateStore) -> LabelRows:
    """Every row of the store. The channel of a candidate is known, so it is not a label: action_N is 0."""
    rows = len(candidates)
    return LabelRows(
        candidates.features(), np.zeros(rows, np.int64), candidates.labels_NT, candidates.maturity_NT,
        np.zeros(rows, np.float32), candidates.user_N, None,
    )  # fmt: skip


def draw_labels(
    store: WindowStore, limit: int, seed: int, predict: Callable[..., Prediction] | None = None
) -> LabelRows:
    """The labels of randomly drawn windows, at most `limit` of them; reading stops when there are that many.

    Windows are read in blocks, each in the order of the store. If there are too many, a random selection remains, so
    that no days are preferred.

    predict: the `predict` of a method, for `prediction`.
    """
    order = np.random.default_rng(seed).permutation(len(store))
    parts, predictions, labels = [], [], 0
    for start in range(0, len(order), _WINDOWS_AT_ONCE):
        rows = np.sort(order[start : start + _WINDOWS_AT_ONCE])
        windows = store.windows.take(rows)
        label_NL = windows.label_NL
        parts.append(
            (
                windows.label_features(),
                windows.action_NL[label_NL].astype(np.int64),
                windows.gains_NLG[label_NL],
                windows.maturity_NLG[label_NL],
                store.propensity_NL(rows)[label_NL],
                np.repeat(store.user_N[rows], label_NL.sum(axis=1)),
            )
        )
        if predict:
            predictions.append(predict(windows.batch()).take(label_NL))
        labels += len(parts[-1][1])
        if labels >= limit:
            break
    columns: list[npt.NDArray[Any]] = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    drawn = LabelRows(*columns, Prediction.concatenate(predictions) if predict else None)  # type: ignore[arg-type, call-arg]
    return drawn.at_most(limit, seed)

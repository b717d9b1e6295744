"""Fitted gradient boosting as plain arrays, with predictions bit for bit equal to scikit-learn's.

scikit-learn can store a model only as a pickle, and reading a pickle can run any code. But a fitted model predicts from
arrays of numbers alone. This module keeps these arrays. It evaluates them for few rows with scikit-learn's own tree
predictor, and for many rows with whole columns (small_trees.py), which takes a tenth of the time.

N rows, F features, C classes, K trees an iteration (1 for two classes, else C), I iterations.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn._loss import HalfBinomialLoss, HalfMultinomialLoss
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

from mtorl_model.methods.common.small_trees import SmallTree

Array = npt.NDArray[Any]
_NO_CATEGORIES = np.zeros((0, 8), np.uint32)  # all features are numbers
_MANY_ROWS = 1024  # about as many as make whole columns quicker
_ROWS_AT_ONCE = 8192  # their columns fit into a processor's cache


@dataclass(frozen=True, eq=False)
class Trees:
    """A fitted classifier on F numbers; classes are whole numbers."""

    classes_C: npt.NDArray[np.int64]
    baseline_K: npt.NDArray[np.float64]  # start value of the sums over trees
    size_IK: npt.NDArray[np.int64]  # nodes of each tree
    nodes: Array  # of all trees, one behind another, as PREDICTOR_RECORD_DTYPE

    @classmethod
    def from_classifier(cls, fitted: HistGradientBoostingClassifier) -> "Trees":
        """The arrays of a fitted classifier, which must have no categorical features."""
        trees = [[tree.nodes for tree in iteration] for iteration in fitted._predictors]
        return cls(
            classes_C=fitted.classes_.astype(np.int64),
            baseline_K=fitted._baseline_prediction.ravel(),
            size_IK=np.array([[len(nodes) for nodes in iteration] for iteration in trees]),
            nodes=np.concatenate([nodes for iteration in trees for nodes in iteration]),
        )

    def probabilities(self, features_NF: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """[N, C]."""
        rows = len(features_NF)
        raw_NK = np.zeros((rows, len(self.baseline_K)), order="F")
        raw_NK += self.baseline_K
        by_columns = rows >= _MANY_ROWS and self._small_trees is not None
        for start in range(0, rows, _ROWS_AT_ONCE if by_columns else max(rows, 1)):
            chosen = slice(start, start + _ROWS_AT_ONCE) if by_columns else slice(None)
            values = self._values_by_column if by_columns else self._values_by_row
            for tree, value_X in enumerate(values(features_NF[chosen])):
                raw_NK[chosen, tree % len(self.baseline_K)] += value_X
        loss = HalfMultinomialLoss(n_classes=len(self.classes_C)) if len(self.classes_C) > 2 else HalfBinomialLoss()
        probability_NC: npt.NDArray[np.float64] = loss.predict_proba(raw_NK)
        return probability_NC

    def _values_by_row(self, features_XF: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float64]]:
        """For each tree its values, [X]."""
        x_XF, threads = features_XF.astype(np.float64), torch.get_num_threads()
        no_map = np.zeros(features_XF.shape[1], np.uint32)
        for nodes in self._nodes_by_tree():
            yield TreePredictor(nodes, _NO_CATEGORIES, _NO_CATEGORIES).predict(x_XF, _NO_CATEGORIES, no_map, threads)

    def _values_by_column(self, features_XF: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float64]]:
        """As _values_by_row, for small trees."""
        column_FX = np.ascontiguousarray(features_XF.T)
        for tree in self._small_trees or ():
            yield tree.values(column_FX)

    @cached_property
    def _small_trees(self) -> list[SmallTree] | None:
        """None if one of the trees is not small."""
        trees = [SmallTree.of(nodes) for nodes in self._nodes_by_tree()]
        return None if None in trees else trees  # type: ignore[return-value]

    def _nodes_by_tree(self) -> Iterator[Array]:
        ends = np.cumsum(self.size_IK)
        for start, end in zip(ends - self.size_IK.ravel(), ends, strict=True):
            yield self.nodes[start:end]

    def arrays(self) -> dict[str, Array]:
        """All of it as arrays of plain numbers by name."""
        columns = {f"nodes.{name}": _plain(self.nodes[name]) for name in PREDICTOR_RECORD_DTYPE.names}
        return {"classes": self.classes_C, "baseline": self.baseline_K, "sizes": self.size_IK, **columns}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Trees":
        """Undo `arrays`. Raises KeyError if an array is missing."""
        nodes = np.zeros(len(arrays["nodes.value"]), PREDICTOR_RECORD_DTYPE)
        for name in PREDICTOR_RECORD_DTYPE.names:
            nodes[name] = arrays[f"nodes.{name}"]
        return cls(arrays["classes"], arrays["baseline"], arrays["sizes"], nodes)


def _plain(values: Array) -> Array:
    """Whole numbers as int64, which every tensor library knows; they are small."""
    return np.ascontiguousarray(values if values.dtype.kind == "f" else values.astype(np.int64))

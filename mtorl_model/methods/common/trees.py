"""Fitted gradient boosting as plain arrays, with predictions bit for bit equal to scikit-learn's.

scikit-learn can store a model only as a pickle, and reading a pickle can run any code. But a fitted model predicts from
arrays of numbers alone. This module keeps these arrays and evaluates them with scikit-learn's own tree predictor.

N rows, F features, C classes, K trees an iteration (1 for two classes, else C), I iterations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn._loss import HalfBinomialLoss, HalfMultinomialLoss
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

Array = npt.NDArray[Any]
_NO_CATEGORIES = np.zeros((0, 8), np.uint32)  # all features are numbers


@dataclass(frozen=True, slots=True, eq=False)
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
        rows, width = features_NF.shape
        x_NF = features_NF.astype(np.float64)
        raw_NK = np.zeros((rows, len(self.baseline_K)), order="F")
        raw_NK += self.baseline_K
        no_map, threads = np.zeros(width, np.uint32), torch.get_num_threads()
        ends = np.cumsum(self.size_IK)
        for tree, (start, end) in enumerate(zip(ends - self.size_IK.ravel(), ends, strict=True)):
            predictor = TreePredictor(self.nodes[start:end], _NO_CATEGORIES, _NO_CATEGORIES)
            raw_NK[:, tree % len(self.baseline_K)] += predictor.predict(x_NF, _NO_CATEGORIES, no_map, threads)
        loss = HalfMultinomialLoss(n_classes=len(self.classes_C)) if len(self.classes_C) > 2 else HalfBinomialLoss()
        probability_NC: npt.NDArray[np.float64] = loss.predict_proba(raw_NK)
        return probability_NC

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

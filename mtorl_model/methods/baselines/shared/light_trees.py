"""A classifier of LightGBM as arrays, with the interface of common/trees.py.

N rows, F features, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mtorl_model.methods.baselines.shared.library import library
from mtorl_model.methods.common.label_trees import Features, TreesConfig
from mtorl_model.methods.method import Floats

lightgbm = library("lightgbm")


@dataclass(frozen=True, slots=True, eq=False)
class LightTrees:
    """A fitted classifier; classes are whole numbers. Its state is the library's text, which is data and not code.

    A cut text can end the process that reads it, so it is read only after the folder's checksums (model_folder.py).
    """

    classes_C: npt.NDArray[np.int64]
    booster: Any  # lightgbm.Booster

    @classmethod
    def fit(
        cls, features_NF: Features, class_N: npt.NDArray[Any], weight_N: Floats | None, config: TreesConfig,
        iterations: int, rate: float, *, categories: int, category_values: int,
    ) -> "LightTrees":  # fmt: skip
        """Fit on rows whose last features are codes of categories; see FitTrees."""
        classes_C, code_N = np.unique(class_N, return_inverse=True)
        parameters = {
            "objective": "multiclass", "num_class": len(classes_C), "learning_rate": rate,
            "num_leaves": config.max_leaf_nodes, "min_data_in_leaf": config.min_samples_leaf,
            "lambda_l2": config.l2_regularization, "max_cat_threshold": category_values, "seed": config.tree_seed,
            "deterministic": True, "force_row_wise": True, "num_threads": torch.get_num_threads(), "verbosity": -1,
        }  # fmt: skip
        if len(classes_C) == 2:
            parameters |= {"objective": "binary", "num_class": 1}
        features = features_NF.shape[1]
        codes = list(range(features - categories, features))
        rows = lightgbm.Dataset(features_NF, code_N, weight=weight_N, categorical_feature=codes)
        text = _without_threads(lightgbm.train(parameters, rows, iterations).model_to_string())
        return cls.from_arrays({"classes": classes_C.astype(np.int64), "text": _bytes(text)})

    def probabilities(self, features_NF: Features) -> Floats:
        """[N, C]."""
        if not len(features_NF):  # LightGBM refuses it
            return np.zeros((0, len(self.classes_C)))
        predicted: Floats = self.booster.predict(features_NF, num_threads=torch.get_num_threads())
        return np.stack([1 - predicted, predicted], axis=1) if predicted.ndim == 1 else predicted

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays of plain numbers by name."""
        return {"classes": self.classes_C, "text": _bytes(_without_threads(self.booster.model_to_string()))}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "LightTrees":
        """Undo `arrays`. Raises KeyError if an array is missing, and ValueError if LightGBM cannot read the text."""
        try:
            booster = lightgbm.Booster(model_str=arrays["text"].tobytes().decode())
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(str(error)) from error
        return cls(arrays["classes"], booster)


def _without_threads(text: str) -> str:
    """The library's text without the number of threads, which would make equal trees differ."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("[num_threads:"))


def _bytes(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8).copy()  # a copy can be written, which torch wants

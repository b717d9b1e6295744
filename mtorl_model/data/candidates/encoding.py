"""Encodes candidate rows: categories as codes, numbers scaled. Fitted on training users only.

Shapes: N rows, K categorical inputs, F numeric inputs.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.candidate_inputs import category_names, number_names
from schemas.dataset import Dataset
from schemas.errors import UserError

# A category that fewer training rows have shares code 0.
RAREST_CATEGORY = 10
# The logarithm is taken of a number >= 0 with more skewness than this.
HEAVY_TAIL = 2.0
# Scaled numbers are clipped at this many standard deviations.
NUMERIC_LIMIT = 8.0

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NumberScale:
    """(x - mean) / std, where x is log1p(value) if `log`. std is 1 for a constant number."""

    log: bool
    mean: float
    std: float

    @classmethod
    def fit(cls, values_N: Doubles) -> Self:
        """values_N: NaN for missing values, which are left out."""
        values = values_N[~np.isnan(values_N)]
        if not len(values):
            return cls(log=False, mean=0.0, std=1.0)
        log = bool(values.min() >= 0 and _skewness(values) > HEAVY_TAIL)
        values = np.log1p(values) if log else values
        return cls(log, float(values.mean()), float(values.std()) or 1.0)

    def apply(self, values_N: Doubles) -> Doubles:
        """NaN stays NaN."""
        values_N = np.log1p(np.maximum(values_N, 0.0)) if self.log else values_N
        scaled_N: Doubles = np.clip((values_N - self.mean) / self.std, -NUMERIC_LIMIT, NUMERIC_LIMIT)
        return scaled_N


@dataclass(frozen=True, slots=True)
class CandidateEncoder:
    """vocabularies: each category's values, the most frequent one first, which has code 1. scales: of each number."""

    dataset: str
    vocabularies: Mapping[str, tuple[str, ...]]
    scales: Mapping[str, NumberScale]

    @classmethod
    def fit(cls, rows: pa.Table, dataset: Dataset) -> Self:
        """rows: candidate rows of training users only, as from features.candidate_inputs. UserError without any row."""
        if not len(rows):
            raise UserError(f"{dataset.name} has no exposure of a training user on these days: choose more days")
        return cls(
            dataset.name,
            {name: _vocabulary(rows.column(name)) for name in category_names(dataset)},
            {name: NumberScale.fit(rows.column(name).to_numpy()) for name in number_names(dataset)},
        )

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of codes of each category, code 0 included."""
        return tuple(len(values) + 1 for values in self.vocabularies.values())

    def categorical_NK(self, rows: pa.Table) -> npt.NDArray[np.int32]:
        """The codes; 0 for a missing or an unknown value."""
        codes = np.zeros((len(rows), len(self.vocabularies)), np.int32)
        for k, (name, values) in enumerate(self.vocabularies.items()):
            index = pc.index_in(rows.column(name), value_set=pa.array(values, pa.string()))
            codes[:, k] = np.asarray(pc.fill_null(index, -1)) + 1
        return codes

    def numeric_NF(self, rows: pa.Table) -> npt.NDArray[np.float32]:
        """The scaled numbers; NaN for a missing value."""
        numbers = np.empty((len(rows), len(self.scales)), np.float32)
        for f, (name, scale) in enumerate(self.scales.items()):
            numbers[:, f] = scale.apply(rows.column(name).to_numpy())
        return numbers

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The encoder that to_json wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(
            values["dataset"],
            {name: tuple(vocabulary) for name, vocabulary in values["vocabularies"].items()},
            {name: NumberScale(**scale) for name, scale in values["scales"].items()},
        )


def _vocabulary(values: pa.ChunkedArray) -> tuple[str, ...]:
    counted = pc.value_counts(values.combine_chunks().drop_null()).to_pylist()
    common = [(-entry["counts"], entry["values"]) for entry in counted if entry["counts"] >= RAREST_CATEGORY]
    return tuple(value for _, value in sorted(common))


def _skewness(values: Doubles) -> float:
    std = float(values.std())
    return float(np.mean(((values - values.mean()) / std) ** 3)) if std > 0 else 0.0

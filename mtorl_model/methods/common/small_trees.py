"""A small regression tree, evaluated for many rows by whole columns instead of row by row.

Every leaf has a bit. A split that sends a row to the right excludes the leaves on its left. The first leaf that no
split excludes is the row's leaf, so the splits can be computed in any order, each as a comparison of one column. This
is the method QuickScorer (Lucchese et al., SIGIR 2015).

N rows, F features, L leaves.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_MOST_LEAVES = 16
_BYTE_LEAVES = 8  # of a tree whose bits fit into a byte
# The first bit that is not set, by the number that has the bits.
_FIRST_FREE = np.array([((~bits & (bits + 1)).bit_length() - 1) % _MOST_LEAVES for bits in range(1 << _MOST_LEAVES)])


class Split(NamedTuple):
    """right_if_missing: where a row goes whose value is missing. left_leaves: their bits."""

    feature: int
    threshold: np.float32
    right_if_missing: bool
    left_leaves: int


class SmallTree(NamedTuple):
    """leaf_value: the value of a row by its excluded leaves, if the bits fit into a byte; else by its leaf."""

    splits: Sequence[Split]
    leaf_value: npt.NDArray[np.float64]
    fits_byte: bool

    @classmethod
    def of(cls, nodes: npt.NDArray[Any]) -> "SmallTree | None":
        """From scikit-learn's nodes; None if there are too many leaves."""
        columns = {name: nodes[name].tolist() for name in ("is_leaf", "value", "left", "right", "feature_idx")}
        columns |= {"missing_left": nodes["missing_go_to_left"].tolist()}
        threshold = _rounded_down(nodes["num_threshold"])
        splits: list[Split] = []
        leaf_values: list[float] = []

        def leaves_below(node: int) -> int:
            """Their bits; leaves are numbered from left to right."""
            if columns["is_leaf"][node]:
                leaf_values.append(columns["value"][node])
                return 1 << (len(leaf_values) - 1)
            left = leaves_below(columns["left"][node])
            is_right = not columns["missing_left"][node]
            splits.append(Split(columns["feature_idx"][node], threshold[node], is_right, left))
            return left | leaves_below(columns["right"][node])

        if sum(columns["is_leaf"]) > _MOST_LEAVES:
            return None
        leaves_below(0)
        value_L = np.array(leaf_values)
        fits_byte = len(value_L) <= _BYTE_LEAVES
        if fits_byte:  # with all bits set, which no row has, the first free one is beyond the last leaf
            value_L = value_L[np.minimum(_FIRST_FREE[: 1 << _BYTE_LEAVES], len(value_L) - 1)]
        return cls(splits, value_L, fits_byte)

    def values(self, column_FN: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """[N]: the value of each row's leaf."""
        dtype: type[np.unsignedinteger[Any]] = np.uint8 if self.fits_byte else np.uint16
        excluded_N: npt.NDArray[np.unsignedinteger[Any]] = np.zeros(column_FN.shape[1], dtype)
        for feature, threshold, right_if_missing, left_leaves in self.splits:
            column_N = column_FN[feature]
            goes_right_N = ~(column_N <= threshold) if right_if_missing else column_N > threshold
            excluded_N = excluded_N | goes_right_N * dtype(left_leaves)
        value_N: npt.NDArray[np.float64] = self.leaf_value[excluded_N if self.fits_byte else _FIRST_FREE[excluded_N]]
        return value_N


def _rounded_down(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 that is not above: a float32 is at most the threshold if it is at most this number."""
    with np.errstate(over="ignore"):
        nearest = threshold.astype(np.float32)
    return np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)

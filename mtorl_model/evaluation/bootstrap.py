"""Intervals from a bootstrap over users: the exposures of one user depend on each other, so whole users are drawn.

A figure is a function of sums over labels. The sums are computed once for each user; a replicate draws U of the U users
with replacement and adds up their sums. All figures use the same draws, so that differences are paired.
Shapes: N labels, U users, R replicates, K sums.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

REPLICATES = 1000
_LEAST_REPLICATES = 200
_LARGEST_DRAW = 200_000_000  # bytes; fewer replicates are drawn if there are very many users
_BYTES_AT_ONCE = 100_000_000
FEWEST_USERS = 20  # with fewer users there are no replicates and no intervals
LEVEL = 0.95


class UserBootstrap:
    """Draws of the users of some labels."""

    def __init__(self, user_N: npt.NDArray[Any], *, replicates: int = REPLICATES, seed: int = 0) -> None:
        """user_N: the user of each label; any values that can be sorted."""
        names, user = np.unique(user_N, return_inverse=True)
        self.users = len(names)
        self._user_N: Ints = user.astype(np.int64)
        affordable = min(replicates, max(_LEAST_REPLICATES, _LARGEST_DRAW // max(self.users, 1)))
        self.replicates = affordable if self.users >= FEWEST_USERS else 0
        rng = np.random.default_rng(seed)
        # How often each user is drawn; 255 times is never reached.
        self._drawn_RU = np.zeros((self.replicates, self.users), np.uint8)
        for drawn_U in self._drawn_RU:
            drawn_U[:] = np.bincount(rng.integers(0, self.users, self.users), minlength=self.users)

    def sums(self, values_NK: Floats) -> Floats:
        """The sums over all labels, followed by the sums of each replicate, [1 + R, K]."""
        by_user_UK = np.zeros((self.users, values_NK.shape[1]))
        np.add.at(by_user_UK, self._user_N, values_NK)
        return self._add_up(by_user_UK)

    def counts(self, class_N: Ints, classes: int, weight_N: Floats | None = None) -> Floats:
        """The number of labels (or their weight) in each class, [1 + R, classes]; 0 <= class_N < classes."""
        weight = np.ones(len(class_N)) if weight_N is None else weight_N
        shape = (self.users, classes)
        return self._add_up(sparse.coo_array((weight, (self._user_N, class_N)), shape).tocsr())

    def _add_up(self, by_user_UK: Any) -> Floats:
        parts: list[Floats] = [np.asarray(by_user_UK.sum(axis=0), dtype=np.float64).reshape(1, -1)]
        transposed_KU = by_user_UK.T
        at_once = max(1, _BYTES_AT_ONCE // (8 * max(self.users, 1)))
        for start in range(0, self.replicates, at_once):
            drawn = self._drawn_RU[start : start + at_once].astype(np.float64)
            parts.append((transposed_KU @ drawn.T).T)
        return np.concatenate(parts)


def quotient(part_R: Floats, total_R: Floats) -> Floats:
    """part / total; NaN (the figure does not exist) if the total is 0."""
    quotient_R: Floats = np.divide(part_R, total_R, out=np.full(len(total_R), np.nan), where=total_R > 0)
    return quotient_R


def interval(figure_R: Floats) -> tuple[float, float] | None:
    """The 95 % percentile interval of a figure, [1 + R]; the first entry, the figure itself, is left out.

    None without replicates, or if the figure does not exist in more than 5 % of them (a class that is rarely drawn).
    """
    replicates = figure_R[1:]
    real = replicates[np.isfinite(replicates)]
    if not len(real) or len(real) < LEVEL * len(replicates):
        return None
    low, high = np.quantile(real, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def estimate(figure_R: Floats) -> dict[str, float | None]:
    """The figure with its interval: value, low, high. None for a value or bound that does not exist."""
    low, high = interval(figure_R) or (None, None)
    value = float(figure_R[0])
    return {"value": value if np.isfinite(value) else None, "low": low, "high": high}

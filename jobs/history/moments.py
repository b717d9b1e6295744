"""Count, mean, deviation and skewness of numbers, added up over tables of rows.

Shapes: N rows of a table, F numbers.
"""

from dataclasses import dataclass

import numpy as np

from features.columns import Floats, Ints


@dataclass(frozen=True)
class Moments:
    """F numbers without their missing values: count, mean, and the summed squares and cubes of the deviations."""

    count_F: Ints
    mean_F: Floats
    squares_F: Floats
    cubes_F: Floats

    @classmethod
    def from_columns(cls, values_NF: Floats) -> "Moments":
        """The moments of the columns; NaN is a missing value."""
        count_F = (~np.isnan(values_NF)).sum(axis=0)
        # Added up from the smallest value on, so that a constant has no deviation at all.
        min_F = np.fmin.reduce(values_NF, axis=0, initial=np.inf)
        min_F[count_F == 0] = 0.0
        mean_F = min_F + np.nansum(values_NF - min_F, axis=0) / np.maximum(count_F, 1)
        deviation_NF = np.nan_to_num(values_NF - mean_F)
        return cls(count_F, mean_F, (deviation_NF**2).sum(axis=0), (deviation_NF**3).sum(axis=0))

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both sets of rows, without the cancellation of sums of powers (Chan, Golub and LeVeque)."""
        count_F = self.count_F + other.count_F
        share_F, other_share_F = (part.count_F / np.maximum(count_F, 1) for part in (self, other))
        shift_F = other.mean_F - self.mean_F
        shift_squares_F = shift_F**2 * self.count_F * other_share_F
        return Moments(
            count_F,
            self.mean_F + shift_F * other_share_F,
            self.squares_F + other.squares_F + shift_squares_F,
            self.cubes_F + other.cubes_F + shift_squares_F * shift_F * (share_F - other_share_F)
            + 3 * shift_F * (share_F * other.squares_F - other_share_F * self.squares_F),
        )  # fmt: skip

    @property
    def std_F(self) -> Floats:
        """Standard deviation of the population; 0 without a value."""
        return np.sqrt(self.squares_F / np.maximum(self.count_F, 1))

    @property
    def skewness_F(self) -> Floats:
        """Skewness of the population; 0 for a constant."""
        std_F = self.std_F
        return self.cubes_F / np.maximum(self.count_F, 1) / np.where(std_F > 0, std_F, np.inf) ** 3

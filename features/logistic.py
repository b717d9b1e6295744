"""The logistic function and its inverse."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_SMALLEST = 1e-6  # probabilities nearer to 0 or 1 have the log-odds of this one


def sigmoid(x_X: Floats) -> Floats:
    """The probability with these log-odds."""
    probability_X: Floats = 1.0 / (1.0 + np.exp(-x_X))
    return probability_X


def log_odds(probability_X: Floats) -> Floats:
    """log(p / (1 - p)), finite for 0 and 1."""
    p_X = np.clip(probability_X, _SMALLEST, 1 - _SMALLEST)
    odds_X: Floats = np.log(p_X) - np.log1p(-p_X)
    return odds_X

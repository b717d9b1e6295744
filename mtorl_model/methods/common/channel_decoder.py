"""A linear decoder that reads the channel: the log-odds of a gain from the inputs of a step and a channel.

    m(x, a) = c + d_a + v . z(x) + u . record_a(x) + W_a . z(x)

with z the standardised inputs (category codes as numbers), among them the user's record in every channel, and record_a
those that belong to channel a. Trees learn from a channel's own record; W learns in addition what the record in one
channel implies for another one, for example because users like both. The prior on W is that it is 0.

Shapes: N rows, A channels, F features, K features of a channel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from features.logistic import sigmoid
from mtorl_model.methods.method import Floats

Ints = npt.NDArray[np.int64]
_LIMIT = 4.0  # standard deviations; larger inputs count as this
_PENALTY = 1.0  # of v and u


@dataclass(frozen=True, slots=True, eq=False)
class ChannelDecoder:
    """The fitted decoder. Weights of the F features, and of the K features of the channel."""

    mean_F: Floats
    scale_F: Floats
    constant_A: Floats  # c + d
    common_F: Floats  # v
    record_K: Floats  # u
    personal_AF: Floats  # W

    @classmethod
    def fit(
        cls, features_NF: npt.NDArray[Any], action_N: Ints, gained_N: Floats, weight_N: Floats, record_AK: Ints,
        penalty: float,
    ) -> "ChannelDecoder":  # fmt: skip
        """penalty: of the squares of W, in labels: how many labels the prior is worth."""
        width, (channels, record_width) = features_NF.shape[1], record_AK.shape
        mean_F = features_NF.mean(axis=0, dtype=np.float64)
        scale_F = np.maximum(features_NF.std(axis=0, dtype=np.float64), 1e-6)
        z_NF = _standardised(features_NF, mean_F, scale_F)
        rows_A = [np.flatnonzero(action_N == a) for a in range(channels)]
        parts = [(z_NF[rows], weight_N[rows], gained_N[rows]) for rows in rows_A]  # by channel
        rate = float(np.average(gained_N, weights=weight_N))
        start = np.zeros(channels + width + record_width + channels * width)
        start[:channels] = np.log(rate / (1 - rate))
        ends = np.cumsum([channels, width, record_width])
        penalty_P = np.concatenate(
            [np.full(channels, 1e-3), np.full(width + record_width, _PENALTY), np.full(channels * width, penalty)]
        )

        def loss(parameters: Floats) -> tuple[float, Floats]:
            constant_A, common_F, record_K, flat = np.split(parameters, ends)
            personal_AF, total = flat.reshape(channels, width), 0.0
            slopes = np.zeros(channels), np.zeros(width), np.zeros(record_width), np.zeros((channels, width))
            for a, (z_XF, weight_X, gained_X) in enumerate(parts):
                odds_X = constant_A[a] + z_XF @ (common_F + personal_AF[a]) + z_XF[:, record_AK[a]] @ record_K
                total += float(weight_X @ (np.logaddexp(0.0, odds_X) - gained_X * odds_X))
                residual_X = weight_X * (sigmoid(odds_X) - gained_X)
                slope_F = z_XF.T @ residual_X
                slopes[0][a] = residual_X.sum()
                slopes[1][:] += slope_F
                slopes[2][:] += slope_F[record_AK[a]]
                slopes[3][a] = slope_F
            slope_P = np.concatenate([slopes[0], slopes[1], slopes[2], slopes[3].ravel()])
            return total + float(penalty_P @ parameters**2) / 2, slope_P + penalty_P * parameters

        fitted = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
        constant_A, common_F, record_K, flat = np.split(fitted, ends)
        return cls(mean_F, scale_F, constant_A, common_F, record_K, flat.reshape(channels, width))

    def odds(self, features_NF: npt.NDArray[Any], record_AK: Ints) -> Floats:
        """[N, A]: m."""
        z_NF = _standardised(features_NF, self.mean_F, self.scale_F)
        record_NA = np.stack([z_NF[:, columns] @ self.record_K for columns in record_AK], axis=1)
        return self.constant_A + (z_NF @ self.common_F)[:, None] + record_NA + z_NF @ self.personal_AF.T

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays by name."""
        return {name.rpartition("_")[0]: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Any) -> "ChannelDecoder":
        """Undo `arrays`. Raises KeyError if an array is missing."""
        return cls(*(arrays[name.rpartition("_")[0]] for name in cls.__slots__))


def _standardised(features_NF: npt.NDArray[Any], mean_F: Floats, scale_F: Floats) -> Floats:
    z_NF: Floats = np.clip((features_NF - mean_F) / scale_F, -_LIMIT, _LIMIT)
    return z_NF

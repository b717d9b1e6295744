"""The reward input r_{t-1} of a step: the gains since the previous step, in one of three encodings.

N windows, L steps, G gains (from the least to the most valuable), R reward inputs.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class RewardInputs(Protocol):
    """One encoding. `name` is part of the key of windows that were encoded with it."""

    name: str

    def names(self, gains: tuple[str, ...]) -> tuple[str, ...]:
        """A name for each index of the last axis, length R."""

    def encode(self, new_NLG: Array, scaled_NL: Array) -> Array:
        """The reward inputs, [N, L, R].

        new_NLG: number of each gain since the previous step. scaled_NL: their scaled reward, 0 to 1.
        """


class GainsAndReward:
    """The square root of each gain's count since the previous step, and the scaled reward."""

    name = "gains_and_reward"

    def names(self, gains: tuple[str, ...]) -> tuple[str, ...]:
        return (*(f"new_{g}" for g in gains), "scaled_reward")

    def encode(self, new_NLG: Array, scaled_NL: Array) -> Array:
        return np.concatenate([np.sqrt(new_NLG), scaled_NL[..., None]], axis=-1)


class ScaledReward:
    """The scaled reward alone."""

    name = "scaled_reward"

    def names(self, gains: tuple[str, ...]) -> tuple[str, ...]:
        return ("scaled_reward",)

    def encode(self, new_NLG: Array, scaled_NL: Array) -> Array:
        return scaled_NL[..., None]


class HighestGain:
    """One-hot of the most valuable gain since the previous step: class k for the k-th gain, class 0 without a gain."""

    name = "highest_gain"

    def names(self, gains: tuple[str, ...]) -> tuple[str, ...]:
        return ("no_gain", *(f"reached_{g}" for g in gains))

    def encode(self, new_NLG: Array, scaled_NL: Array) -> Array:
        rank_G = np.arange(1, new_NLG.shape[-1] + 1)
        one_hot: Array = np.eye(len(rank_G) + 1)[np.max((new_NLG > 0) * rank_G, axis=-1)]
        return one_hot


GAINS_AND_REWARD, SCALED_REWARD, HIGHEST_GAIN = GainsAndReward(), ScaledReward(), HighestGain()

"""Windows that refer to encoded steps: a step is in several windows, and is stored once.

Shapes: N windows, L positions, M steps; the other suffixes are those of encoding.py.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mtorl_model.data.encoding import Encoded, Labels

_PROFILE = ("profile_categorical_NK", "profile_numeric_NF")
_PADDING = {"action_NL": -1, "maturity_NLG": 1}  # value at padding; 0 in all other arrays
# The name of each array of `Encoded` in StepArrays.
STEP_ARRAYS = {
    "categorical_NLK": "categorical_MK",
    "numeric_NLF": "numeric_MF",
    "action_in_NLA": "action_in_MA",
    "reward_in_NLR": "reward_in_MR",
    "action_NL": "action_M",
    "gains_NLG": "gains_MG",
    "maturity_NLG": "maturity_MG",
    "reward_NL": "reward_M",
}

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64] | slice


class Windows(Protocol):
    """N windows that can be read in any order: Encoded in memory, or EncodedSteps."""

    def take(self, rows: Rows) -> Encoded:
        """The windows of those rows, copied into memory."""

    def labels(self, rows: Rows) -> Labels:
        """The labels of those windows alone."""


class StepArrays(NamedTuple):
    """M encoded steps: the arrays of `Encoded` without the axis of the positions. has_channel_M: may be a label.

    propensity_M: the probability with which the log drew the step's channel at random, float32; 0 if it is unknown.
    """

    categorical_MK: Array
    numeric_MF: Array
    action_in_MA: Array
    reward_in_MR: Array
    has_channel_M: Array
    action_M: Array
    gains_MG: Array
    maturity_MG: Array
    reward_M: Array
    propensity_M: Array


class WindowArrays(NamedTuple):
    """N windows. The steps of a window are rows of StepArrays, first_row_N and those after it.

    steps_N: how many steps a window has. labels_N: how many of its last steps are labels. user_N: a
    number for the user.
    """

    first_row_N: Array
    steps_N: Array
    labels_N: Array
    profile_categorical_NK: Array
    profile_numeric_NF: Array
    user_N: Array


class EncodedSteps:
    """Windows of `length` positions that refer to encoded steps."""

    def __init__(self, steps: StepArrays, windows: WindowArrays, length: int) -> None:
        self.steps, self._windows, self.length = steps, windows, length

    def take(self, rows: Rows) -> Encoded:
        """The windows of those rows, copied into memory."""
        step_NL, valid_NL = self._positions(rows)
        profile = {name: np.array(getattr(self._windows, name)[rows]) for name in _PROFILE}
        return Encoded(
            **{name: self._gather(name, step_NL, valid_NL) for name in STEP_ARRAYS},
            **profile,
            valid_NL=valid_NL,
            label_NL=self._is_label(rows, step_NL),
        )

    def labels(self, rows: Rows) -> Labels:
        """The labels of those windows alone."""
        step_NL, valid_NL = self._positions(rows)
        action_NL, gains_NLG = (self._gather(name, step_NL, valid_NL) for name in ("action_NL", "gains_NLG"))
        return Labels(self._is_label(rows, step_NL), action_NL, gains_NLG)

    def propensity_NL(self, rows: Rows) -> npt.NDArray[np.float32]:
        """[N, L]: the propensity of each label step; 0 elsewhere."""
        step_NL, _ = self._positions(rows)
        propensity_NL: npt.NDArray[np.float32] = self.steps.propensity_M[step_NL] * self._is_label(rows, step_NL)
        return propensity_NL

    def _positions(self, rows: Rows) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """[N, L] each: the step of each position, any at padding; and whether the position has a step."""
        steps_N = np.asarray(self._windows.steps_N[rows])[:, None]
        place_NL = np.arange(self.length) - (self.length - steps_N)
        first_row_N = np.asarray(self._windows.first_row_N[rows])[:, None]
        return first_row_N + np.maximum(place_NL, 0), place_NL >= 0

    def _is_label(self, rows: Rows, step_NL: Ints) -> npt.NDArray[np.bool_]:
        from_end_L = self.length - np.arange(self.length)
        labels_N = np.asarray(self._windows.labels_N[rows])[:, None]
        is_label_NL: npt.NDArray[np.bool_] = (from_end_L <= labels_N) & self.steps.has_channel_M[step_NL]
        return is_label_NL

    def _gather(self, name: str, step_NL: Ints, valid_NL: npt.NDArray[np.bool_]) -> Array:
        values: Array = getattr(self.steps, STEP_ARRAYS[name])[step_NL]
        values[~valid_NL] = _PADDING.get(name, 0)
        return values

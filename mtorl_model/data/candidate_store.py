"""Exposures as rows for methods that predict what a given candidate will bring: a row for each exposure.

The inputs of a row use only facts known strictly before the exposure, and the properties of the candidate (the video,
the ad). They never use the outcome of the row, nor that of a row with the same time stamp.

Shape suffixes: N rows, K categorical inputs, F numeric inputs, T tasks, I objectives, U users, S sessions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from schemas.splits import SPLITS

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FINAL = 0.95  # maturity from which an objective counts as final


@dataclass(frozen=True)
class CandidateStore:
    """N exposures in memory, or mapped from files. The rows of a session are adjacent and in their order.

    user_N: a number for each user, 0 to U - 1. session_N: a number for each session, 0 to S - 1, ascending.
    position_N: place of the exposure in its session, from 0. It is not 0 in the first row of a session that began
    before the days of the store.
    exposure_id_N: the id in the table `exposures`. exposed_at_ms_N: ms since 1970 UTC.
    categorical_NK: codes, 0 for a value that is missing or that no training user had; below cardinalities[k].
    numeric_NF: scaled by training users; 0 if missing_NF is True.
    labels_NT: 0 or 1, a column for each of task_names; the second task implies the first (labels[1] <= labels[0]).
    maturity_NT: the probability that a task which is fulfilled is already 1 in labels_NT (delayed_feedback.py).
    objectives_NI: 0 or 1, a column for each of objective_names; no columns if the contract names no objectives.
    objective_maturity_NI: as maturity_NT, for the objectives.
    split_N: index of the user's split in schemas.splits.SPLITS.
    """

    user_N: Ints
    session_N: Ints
    position_N: Codes
    exposure_id_N: Ints
    exposed_at_ms_N: Ints
    categorical_NK: Codes
    numeric_NF: Floats
    missing_NF: Mask
    labels_NT: Floats
    maturity_NT: Floats
    objectives_NI: Floats
    objective_maturity_NI: Floats
    split_N: npt.NDArray[np.int8]
    categorical_names: tuple[str, ...]
    cardinalities: tuple[int, ...]
    numeric_names: tuple[str, ...]
    task_names: tuple[str, ...]
    objective_names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises ValueError where arrays and names do not fit together or the rows of a session are not adjacent."""
        rows = len(self.user_N)
        for name in _ARRAYS:
            if len(getattr(self, name)) != rows:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows, user_N has {rows}")
        widths = {
            "categorical_NK": (self.categorical_names, self.cardinalities),
            "numeric_NF": (self.numeric_names,),
            "missing_NF": (self.numeric_names,),
            "labels_NT": (self.task_names,),
            "maturity_NT": (self.task_names,),
            "objectives_NI": (self.objective_names,),
            "objective_maturity_NI": (self.objective_names,),
        }
        for name, lists in widths.items():
            if {getattr(self, name).shape[1:], *((len(names),) for names in lists)} != {(len(lists[0]),)}:
                raise ValueError(f"{name} has the shape {getattr(self, name).shape}, not one column for each name")
        if (np.diff(self.session_N) < 0).any():
            raise ValueError("rows are not sorted by session")

    def __len__(self) -> int:
        return len(self.user_N)

    @cached_property
    def session_start_S(self) -> Ints:
        """[S]: row of the first exposure of each session in the store."""
        is_first_N = np.ones(len(self), dtype=bool)
        is_first_N[1:] = np.diff(self.session_N) != 0
        return np.flatnonzero(is_first_N)

    @cached_property
    def is_last_N(self) -> Mask:
        """[N]: whether the row is the last of its session in the store."""
        is_last_N = np.ones(len(self), dtype=bool)
        is_last_N[:-1] = np.diff(self.session_N) != 0
        return is_last_N

    @cached_property
    def is_final_N(self) -> Mask:
        """[N]: whether all objectives of the exposure are final: hardly one of them can still follow."""
        is_final_N: Mask = np.all(self.objective_maturity_NI >= FINAL, axis=1)
        return is_final_N

    def split_rows(self, split: str) -> Self:
        """The rows of the users of one split."""
        return self.take(np.flatnonzero(self.split_N == SPLITS.index(split)))

    def take(self, rows: npt.NDArray[Any]) -> Self:
        """The rows at these ascending positions. Sessions keep their numbers."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _ARRAYS})

    @classmethod
    def concatenate(cls, stores: Sequence[Self]) -> Self:
        """The rows of several stores with one encoder, at least one; users and sessions get new numbers.

        A user or a session that is in two stores counts as two.
        """
        arrays: dict[str, Any] = {name: np.concatenate([getattr(store, name) for store in stores]) for name in _ARRAYS}
        for name in ("user_N", "session_N"):
            firsts = np.cumsum([0, *(getattr(store, name).max(initial=-1) + 1 for store in stores)])
            lengths = [len(store) for store in stores]
            arrays[name] = arrays[name] + np.repeat(firsts[:-1], lengths)
        return replace(stores[0], **arrays)

    def features(self, categorical_names: Sequence[str] | None = None) -> npt.NDArray[np.float32]:
        """[N, F + K]: the inputs as one row of numbers for trees: numbers (NaN if missing), then category codes.

        categorical_names: only these categories; None for all.
        """
        names = self.categorical_names if categorical_names is None else categorical_names
        columns = [self.categorical_names.index(name) for name in names]
        numeric_NF = np.where(self.missing_NF, np.float32(np.nan), self.numeric_NF)
        return np.concatenate([numeric_NF, self.categorical_NK[:, columns].astype(np.float32)], axis=1)


_ARRAYS = (
    "user_N",
    "session_N",
    "position_N",
    "exposure_id_N",
    "exposed_at_ms_N",
    "categorical_NK",
    "numeric_NF",
    "missing_NF",
    "labels_NT",
    "maturity_NT",
    "objectives_NI",
    "objective_maturity_NI",
    "split_N",
)

"""Exposures in memory, grouped by session, and read in batches of whole sessions.

Shapes: N exposures, S sessions, K categorical inputs, F numeric inputs, T tasks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mtorl_model.data.session_batch import SessionBatch

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CandidateRows:
    """Exposures, the sessions one behind another and the exposures of each in their order."""

    categorical_NK: npt.NDArray[np.int32]
    numeric_NF: npt.NDArray[np.float32]
    label_NT: npt.NDArray[np.float32]
    session_N: Ints  # a number for each exposure's session; equal numbers are adjacent
    user_N: Ints  # a number for each exposure's user

    def __len__(self) -> int:
        return len(self.session_N)

    @property
    def start_S(self) -> Ints:
        """The first row of each session."""
        starts: Ints = np.flatnonzero(np.diff(self.session_N, prepend=self.session_N[:1] - 1))
        return starts

    @property
    def is_last_N(self) -> npt.NDArray[np.bool_]:
        is_last: npt.NDArray[np.bool_] = np.diff(self.session_N, append=self.session_N[-1:] + 1) != 0
        return is_last

    def take(self, rows: Any) -> "CandidateRows":
        """A selection of the exposures: indices, slice or mask. Rows must keep the order of their sessions."""
        return CandidateRows(*(getattr(self, name)[rows] for name in self.__slots__))

    def batch(self, rows: Any = slice(None)) -> SessionBatch:
        """These rows, which must be whole sessions, as tensors."""
        return self._batch(rows, self.is_last_N)

    def batches(self, batch_size: int, *, seed: int, epoch: int) -> Iterator[SessionBatch]:
        """Every session once, in an order that depends only on seed and epoch.

        A batch has whole sessions: at least batch_size exposures, and no more than its last session adds. The exposures
        that are left at the end join the last batch, so that no batch is too small for its statistics.
        """
        starts, is_last_N = self.start_S, self.is_last_N
        length_S = np.diff(starts, append=len(self))
        order_S = np.random.default_rng([seed, epoch]).permutation(len(starts))
        filled_S = np.cumsum(length_S[order_S])
        ends, filled = [], 0
        while filled_S[-1] - filled >= 2 * batch_size:
            ends.append(int(np.searchsorted(filled_S, filled + batch_size)) + 1)
            filled = int(filled_S[ends[-1] - 1])
        for chosen_S in np.split(order_S, ends):
            chosen_S = np.sort(chosen_S)
            if not len(chosen_S):
                continue
            # Each session's rows: its first one, repeated, and the position within the session.
            length = length_S[chosen_S]
            position_N = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
            yield self._batch(np.repeat(starts[chosen_S], length) + position_N, is_last_N)

    def _batch(self, rows: Any, is_last_N: npt.NDArray[np.bool_]) -> SessionBatch:
        return SessionBatch(
            torch.from_numpy(self.categorical_NK[rows].astype(np.int64)),
            torch.from_numpy(self.numeric_NF[rows]),
            torch.from_numpy(self.label_NT[rows]),
            torch.from_numpy(is_last_N[rows]),
        )

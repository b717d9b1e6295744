"""Exposures of whole sessions as tensors, for methods that predict what a chosen candidate will bring.

Sessions follow one another without padding, the exposures of each in their order; `is_last_N` ends a session. So no row
of padding can take part in anything.

Shapes: N exposures, K categorical inputs, F numeric inputs, T tasks, S sessions.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtorl_model.data.candidate_store import CandidateStore


class SessionBatch(NamedTuple):
    """Exposures with inputs that are known before their outcome, and their labels."""

    categorical_NK: Tensor  # int64 codes; 0 = missing or unseen
    numeric_NF: Tensor  # float32, scaled; 0 if missing
    label_NT: Tensor  # float32, 0 or 1
    is_last_N: Tensor  # bool, the last exposure of its session

    def to_device(self, device: str) -> "SessionBatch":
        """A copy of the batch on that device."""
        return SessionBatch(*(tensor.to(device) for tensor in self))


def session_batch(store: CandidateStore, rows: Any = slice(None)) -> SessionBatch:
    """These rows, which must be whole sessions."""
    return SessionBatch(
        torch.from_numpy(store.categorical_NK[rows].astype(np.int64)),
        torch.from_numpy(store.numeric_NF[rows]),
        torch.from_numpy(store.labels_NT[rows]),
        torch.from_numpy(store.is_last_N[rows]),
    )


def session_batches(store: CandidateStore, batch_size: int, *, seed: int, epoch: int) -> Iterator[SessionBatch]:
    """Every session once, in an order that depends only on seed and epoch.

    A batch has whole sessions: at least batch_size exposures, and no more than its last session adds. The exposures
    that are left at the end join the last batch, so that no batch is too small for its statistics.
    """
    starts = store.session_start_S
    if not len(starts):
        return
    length_S = np.diff(starts, append=len(store))
    order_S = np.random.default_rng([seed, epoch]).permutation(len(starts))
    filled_S = np.cumsum(length_S[order_S])
    ends: list[int] = []
    filled = 0
    while filled_S[-1] - filled >= 2 * batch_size:
        ends.append(int(np.searchsorted(filled_S, filled + batch_size)) + 1)
        filled = int(filled_S[ends[-1] - 1])
    for sessions in np.split(order_S, ends):
        if len(sessions):
            length, start = length_S[sessions], starts[sessions]
            # Each session's rows: its first one, repeated, and the position within the session.
            position_N = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
            yield session_batch(store, np.repeat(start, length) + position_N)

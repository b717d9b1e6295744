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
    maturity_NT: Tensor  # float32, the probability that a label which becomes 1 is 1 already
    is_last_N: Tensor  # bool, the last exposure of its session

    def to_device(self, device: str) -> "SessionBatch":
        """A copy of the batch on that device."""
        return SessionBatch(*(tensor.to(device) for tensor in self))


def observed(p_NT: Tensor, batch: SessionBatch) -> Tensor:
    """The probability that the task is already known if it has the probability p: m p for a label of 0, else p.

    So the cross-entropy of this probability is -log(1 - m p) for a label of 0 (delayed_feedback.py).
    """
    return torch.where(batch.label_NT > 0, p_NT, p_NT * batch.maturity_NT)


def is_known(batch: SessionBatch) -> Tensor:
    """(N, T): the labels that count. With a maturity of 0, it is not known yet whether the task is fulfilled."""
    return batch.maturity_NT > 0


def session_batch(store: CandidateStore, rows: Any = slice(None)) -> SessionBatch:
    """These rows, which must be whole sessions."""
    return SessionBatch(
        torch.from_numpy(store.categorical_NK[rows].astype(np.int64)),
        torch.from_numpy(store.numeric_NF[rows]),
        torch.from_numpy(store.labels_NT[rows]),
        torch.from_numpy(store.maturity_NT[rows]),
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

"""Small stores of candidates, made in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mtorl_model.data.candidate_store import CandidateStore
from schemas.splits import SPLITS, TRAIN


def candidate_store(
    session: Sequence[int],
    *,
    split: Sequence[str] | None = None,
    task_names: tuple[str, ...] = ("click", "click_long_view"),
    seed: int = 0,
) -> CandidateStore:
    """A row for each entry of `session`, each session with its own user, with random inputs and labels."""
    rng = np.random.default_rng(seed)
    session_N = np.asarray(session, np.int64)
    rows = len(session_N)
    first_row = {number: row for row, number in reversed(list(enumerate(session)))}
    click_N = rng.integers(0, 2, rows)
    cardinalities = (5, 9)
    return CandidateStore(
        user_N=session_N,
        session_N=session_N,
        position_N=np.array([row - first_row[number] for row, number in enumerate(session)], np.int32),
        exposure_id_N=np.arange(rows),
        exposed_at_ms_N=1_650_000_000_000 + 1000 * np.arange(rows),
        categorical_NK=np.stack([rng.integers(0, size, rows) for size in cardinalities], axis=1).astype(np.int32),
        numeric_NF=rng.normal(size=(rows, 2)).astype(np.float32),
        missing_NF=np.zeros((rows, 2), dtype=bool),
        labels_NT=np.stack([click_N, click_N * rng.integers(0, 2, rows)], axis=1).astype(np.float32),
        maturity_NT=np.ones((rows, 2), np.float32),
        objectives_NI=np.zeros((rows, 0), np.float32),
        objective_maturity_NI=np.ones((rows, 0), np.float32),
        split_N=np.array([SPLITS.index(name) for name in (split or [TRAIN] * rows)], np.int8),
        categorical_names=("video", "tag"),
        cardinalities=cardinalities,
        numeric_names=("gap_s", "seen_click"),
        task_names=task_names,
        objective_names=(),
    )


def store_of(
    session_N: npt.NDArray[Any],
    categorical_NK: npt.NDArray[Any],
    numeric_NF: npt.NDArray[Any],
    labels_NT: npt.NDArray[Any],
    cardinalities: tuple[int, ...],
    objectives_NI: npt.NDArray[Any] | None = None,
) -> CandidateStore:
    """A store of training users with these inputs and labels; each session has its own user."""
    rows, numbers = numeric_NF.shape
    return CandidateStore(
        user_N=session_N.astype(np.int64),
        session_N=session_N.astype(np.int64),
        position_N=(np.arange(rows) - np.searchsorted(session_N, session_N)).astype(np.int32),
        exposure_id_N=np.arange(rows),
        exposed_at_ms_N=1_650_000_000_000 + 1000 * np.arange(rows),
        categorical_NK=categorical_NK.astype(np.int32),
        numeric_NF=numeric_NF.astype(np.float32),
        missing_NF=np.zeros((rows, numbers), dtype=bool),
        labels_NT=labels_NT.astype(np.float32),
        maturity_NT=np.ones(labels_NT.shape, np.float32),
        objectives_NI=np.zeros((rows, 0), np.float32) if objectives_NI is None else objectives_NI.astype(np.float32),
        objective_maturity_NI=np.ones((rows, 0 if objectives_NI is None else objectives_NI.shape[1]), np.float32),
        split_N=np.zeros(rows, np.int8),
        categorical_names=tuple(f"code_{k}" for k in range(len(cardinalities))),
        cardinalities=cardinalities,
        numeric_names=tuple(f"number_{f}" for f in range(numbers)),
        task_names=("click", "click_long_view", "third")[: labels_NT.shape[1]],
        objective_names=() if objectives_NI is None else tuple(f"objective_{i}" for i in range(objectives_NI.shape[1])),
    )

"""A model's predictions for every user's next step, from the users' journeys.

A user's prediction depends, to the last bit, only on the user's window and the model: not on the other users, not on
the number of cores, and not on whether it was computed now or came from the cache. The last bits of a matrix
product depend on its shape and on its distribution over threads. So windows of one length are predicted together,
without padding, in blocks of a fixed size (the last block is filled up with its last window), and each block by one
thread; the threads share the blocks.

Shapes: U users, N windows of one length, L steps, A actions (channels), G gains.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from lakehouse.reading import rechunk
from lakehouse.rows import ARROW_TYPES
from mtorl_model.data.batch import Batch
from mtorl_model.data.device import device
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.windows.next_steps import journeys_to_windows
from mtorl_model.inference.channel_level import ChannelCounts, count_remembered, reliable_steps
from mtorl_model.inference.prediction_cache import CachedPredictions, Records, record_type
from mtorl_model.methods.method import Method
from schemas.dataset import Dataset

USERS_PER_CHUNK = 8192  # sorted by length together; predictions do not depend on this number
# Windows of one length in a block; the last bits of a prediction depend on it. On a CPU as many as fit into its cache,
# on a GPU enough to keep it busy.
WINDOWS_IN_BLOCK = {"cpu": 128, "cuda": 1024}
_BLOCKS_ENCODED = 8  # upper limit of blocks that are encoded together

T = TypeVar("T")
R = TypeVar("R")


class UserPredictions(NamedTuple):
    """Predictions of U users in the order of their journeys. records_U: see record_type."""

    user_id: pa.Array
    records_U: Records
    counts: ChannelCounts  # of the exposures that the journeys remember
    reused: int  # number of predictions from the cache


def predict_users(
    journeys: Iterable[pa.Table],
    model: Method,
    dataset: Dataset,
    tau: float,
    cached: CachedPredictions | None = None,
) -> Iterator[UserPredictions]:
    """Predictions for all rows of `journeys` (layout of schemas/tables/journeys.py) in their order, in chunks.

    tau: see channel_level.py.
    """
    encoder = model.encoder(dataset)

    def predicted(users: pa.Table) -> UserPredictions:
        return _predict_read(users, model, encoder, dataset, tau, cached)

    with model.prepared():  # the context ends after the last prediction
        yield from parallel_map(predicted, rechunk(journeys, USERS_PER_CHUNK))


def _predict_read(
    users: pa.Table,
    model: Method,
    encoder: Encoder,
    dataset: Dataset,
    tau: float,
    cached: CachedPredictions | None,
) -> UserPredictions:
    """Predict one chunk of users: group them by window length, then cut and encode each group without padding."""
    records_U = np.zeros(len(users), record_type(model))
    counts, reused = ChannelCounts.zeros(len(model.spec.channels)), 0
    for user_N, windows, encoded in windows_by_length(users, model, encoder, dataset):
        length = encoded.valid_NL.shape[1]
        records_N, known = _records(encoded, model, dataset, tau, cached)
        exposures = pc.list_element(windows.column("seen_exposures_by_channel").combine_chunks(), length - 1)
        records_N["shown"] = exposures.flatten().to_numpy().reshape(len(records_N), -1).sum(axis=1)
        counts += count_remembered(windows, encoded, records_N["reliable"][:, -length:], dataset)
        records_U[user_N] = records_N
        reused += known
    user_id = pa.concat_arrays(
        users.column("user_id").chunks or [pa.array([], ARROW_TYPES[dataset.user_id.column.dtype])]
    )
    return UserPredictions(user_id, records_U, counts, reused)


def windows_by_length(
    users: pa.Table, model: Method, encoder: Encoder, dataset: Dataset
) -> Iterator[tuple[npt.NDArray[np.int64], pa.Table, Encoded]]:
    """All users in groups whose windows have the same length, so that none is padded: rows in `users`, windows, inputs.

    A group has at most _BLOCKS_ENCODED blocks.
    """
    remembered_U = pc.list_value_length(users.column("memory")).to_numpy()
    length_U = np.minimum(remembered_U, model.config.steps - 1) + 1
    order_U = np.argsort(length_U, kind="stable")
    by_length, length_U = users.take(pa.array(order_U)), length_U[order_U]
    rows_per_part = _BLOCKS_ENCODED * WINDOWS_IN_BLOCK[device()]
    for length in np.unique(length_U):
        first, end = np.searchsorted(length_U, [length, length + 1])
        for start in range(first, end, rows_per_part):
            part = slice(start, min(start + rows_per_part, end))
            windows = journeys_to_windows(by_length.slice(start, part.stop - start), model.spec, dataset, int(length))
            yield order_U[part], windows, encoder.encode(windows)


def blocks(encoded: Encoded, rows: npt.NDArray[np.int64]) -> Iterator[tuple[npt.NDArray[np.int64], Batch]]:
    """These rows in blocks of a fixed number of windows: the real rows of a block, and the block, filled up."""
    block = WINDOWS_IN_BLOCK[device()]
    for start in range(0, len(rows), block):
        real = rows[start : start + block]
        yield real, encoded.take(np.pad(real, (0, block - len(real)), mode="edge")).batch()


def _records(
    encoded: Encoded, model: Method, dataset: Dataset, tau: float, cached: CachedPredictions | None
) -> tuple[Records, int]:
    """The records of N windows of one length, except `shown`, and the number of them that came from the cache."""
    windows, length = encoded.valid_NL.shape
    records_N = np.zeros(windows, record_type(model))
    inputs_N2 = _digests(encoded)
    new_N = np.ones(windows, dtype=bool)
    if cached is not None:
        known_N, records_K = cached.find(inputs_N2)
        if records_K is not None:
            records_N[known_N] = records_K
        new_N = ~known_N
    records_N["inputs"] = inputs_N2
    rows = np.flatnonzero(new_N)
    for real, batch in blocks(encoded, rows):
        predicted = model.predict_last(batch)
        policy_B1A, gains_BLG, values_B1AG = predicted.policy_XA, predicted.gains_XG, predicted.values_XAG
        if policy_B1A is not None:
            records_N["policy"][real] = policy_B1A[: len(real), -1]
        if values_B1AG is not None:
            records_N["values"][real] = values_B1AG[: len(real), -1]
        if gains_BLG is not None:
            records_N["gains"][real] = gains_BLG[: len(real), -1]
            records_N["reliable"][real, -length:] = reliable_steps(gains_BLG, tau, dataset)[: len(real)]
    return records_N, windows - len(rows)


def _digests(encoded: Encoded) -> npt.NDArray[np.uint64]:
    """[N, 2]: a digest of the model's inputs in each window."""
    inputs = (
        encoded.categorical_NLK, encoded.profile_categorical_NK, encoded.numeric_NLF, encoded.profile_numeric_NF,
        encoded.action_in_NLA, encoded.reward_in_NLR,
    )  # fmt: skip
    windows, length = encoded.valid_NL.shape
    rows = np.concatenate([array.reshape(windows, -1).view(np.uint8) for array in inputs], axis=1)
    salt = length.to_bytes(8, "little")  # windows of different lengths may have the same number of bytes
    digests = b"".join(hashlib.blake2b(row, digest_size=16, salt=salt).digest() for row in rows)
    return np.frombuffer(digests, np.uint64).reshape(windows, 2)


def parallel_map(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Apply `work` to the items on as many threads as torch would use; yields the results in the order of the items.

    Each thread computes with one torch thread. Reads at most one item more than the number of threads in advance.
    """
    threads = torch.get_num_threads()
    futures: deque[Future[R]] = deque()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for item in items:
                futures.append(pool.submit(work, item))
                if len(futures) > threads:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
    finally:
        torch.set_num_threads(threads)

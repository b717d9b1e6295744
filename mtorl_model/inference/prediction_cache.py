"""A cache of the predictions of the last scoring.

A user's prediction is a function of the encoded window and of the model (user_predictions.py). If the dataset's last
scoring used the same model, code, libraries and kind of processor, a prediction is looked up by a digest of the window;
computing it again would give the same bits. The cache is in this machine's scratch folder and may be deleted at any
time.

It saves work if a day's journeys are repaired and scored again. From one night to the next it saves work only if the
feature spec has no feature that counts seconds: the step to score is at the end of the day, so `gap_s` and the seconds
since other events change for every user every night.
"""

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from lakehouse.storage.files import make_durable
from lakehouse.storage.scratch import scratch_folder
from mtorl_model.data.device import device
from mtorl_model.methods.method import GAINS, POLICY, VALUES, Method
from schemas.dataset import Dataset

CACHE = "predictions"
_DIGEST = 64  # bytes of an identity, and of a checksum
_HEADER = 2 * _DIGEST
_RECORDS_PER_READ = 65_536

Records = npt.NDArray[np.void]


def record_type(model: Method) -> np.dtype[np.void]:
    """The record of a user's prediction. inputs: digest of the encoded window."""
    fields: list[tuple[Any, ...]] = [("inputs", np.uint64, 2)]
    if POLICY in model.predicts:
        fields.append(("policy", np.float64, len(model.spec.channels)))  # sums to 1
    if GAINS in model.predicts:
        fields.append(("gains", np.float64, len(model.spec.gains)))
    if VALUES in model.predicts:
        fields.append(("values", np.float64, (len(model.spec.channels), len(model.spec.gains))))
    fields += [
        # For each remembered step, oldest first: whether its predicted click is above tau.
        ("reliable", np.bool_, model.config.steps),
        ("shown", np.int32),  # exposures in the channels of the feature spec
    ]
    return np.dtype(fields)


class PredictionFile:
    """Records on disk, after the identity of the model that made them and the checksum of the records.

    Only the records in use are in memory.
    """

    def __init__(self, file: BinaryIO, record: np.dtype[np.void]) -> None:
        self._file = file  # stays open, also if another file replaces it in the lake
        self._record = record

    @classmethod
    def create(cls, path: Path, identity: str, record: np.dtype[np.void]) -> "PredictionFile":
        file = path.open("w+b")
        file.write(identity.encode().ljust(_HEADER))  # the checksum follows when all records are written
        return cls(file, record)

    def has_identity(self, identity: str) -> bool:
        self._file.seek(0)
        return self._file.read(_DIGEST) == identity.encode()

    def seal(self) -> None:
        """Write the checksum. No record may be added afterwards."""
        checksum = self._checksum()
        self._file.seek(_DIGEST)
        self._file.write(checksum)
        self._file.flush()

    def is_whole(self) -> bool:
        """Whether the records are unchanged since the file was sealed."""
        self._file.seek(_DIGEST)
        return self._file.read(_DIGEST) == self._checksum()

    def _checksum(self) -> bytes:
        self._file.seek(_HEADER)
        digest = hashlib.sha256()
        while block := self._file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest().encode()

    def append(self, records: Records) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(records.tobytes())

    def take(self, rows_X: npt.NDArray[np.int64]) -> Records:
        """Copies of these records (at least one)."""
        self._file.flush()
        # A new map for each call, so that records of earlier calls do not stay in memory.
        return np.memmap(self._file, self._record, mode="r", offset=_HEADER)[rows_X]

    def chunks(self) -> Iterator[Records]:
        """All records in their order, in chunks."""
        self._file.seek(_HEADER)
        while chunk := self._file.read(_RECORDS_PER_READ * self._record.itemsize):
            yield np.frombuffer(chunk, self._record)

    def close(self) -> None:
        self._file.close()


class CachedPredictions:
    """Predictions of the last scoring by the same model, looked up by the digest of their inputs.

    The first half of each digest is in memory, with the position of its record in the file.
    """

    def __init__(self, file: PredictionFile) -> None:
        self._file = file
        first_U = np.concatenate([np.empty(0, np.uint64), *(part["inputs"][:, 0].copy() for part in file.chunks())])
        self._order = np.argsort(first_U)
        self._first_U = first_U[self._order]
        self._file_lock = Lock()  # scoring threads share the file's position

    def find(self, inputs_N2: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.bool_], Records | None]:
        """Which of N digests have a prediction, and the K predictions of those; None if the cache is empty."""
        if not len(self._order):
            return np.zeros(len(inputs_N2), dtype=bool), None
        position_N = np.searchsorted(self._first_U, inputs_N2[:, 0]).clip(max=len(self._order) - 1)
        with self._file_lock:
            records_N = self._file.take(self._order[position_N])
        known_N = (records_N["inputs"] == inputs_N2).all(axis=1)
        return known_N, records_N[known_N]


@contextmanager
def cached_predictions(lake: Lake, model: Method, dataset: Dataset) -> Iterator[CachedPredictions | None]:
    """The cached predictions of this model on this dataset, or None."""
    try:
        opened = _cache_file(lake, dataset).open("rb")
    except FileNotFoundError:
        yield None
        return
    with opened:
        file = PredictionFile(opened, record_type(model))
        is_of_model = file.has_identity(identity(model))
        if is_of_model and not file.is_whole():
            print(f"{opened.name} is damaged: all users are predicted again")
            is_of_model = False
        yield CachedPredictions(file) if is_of_model else None


def replace_cache(lake: Lake, dataset: Dataset, predictions: PredictionFile, staged: Path) -> None:
    """Replace the cached predictions of the dataset by these, whose records are complete, in a staged file."""
    predictions.seal()
    make_durable(staged)
    staged.replace(_cache_file(lake, dataset))


def _cache_file(lake: Lake, dataset: Dataset) -> Path:
    lake_digest = hashlib.sha256(str(lake.root).encode()).hexdigest()[:16]
    return scratch_folder(CACHE) / f"{lake_digest}_{dataset.name}.bin"


def identity(model: Method) -> str:
    """SHA-256 over everything except the window that a prediction depends on: model, code, libraries, processor."""
    digest = hashlib.sha256()
    parts = (
        model.name, model.config.to_json(), model.spec.version, model.initial_policy.to_json(),
        code_version("mtorl_model"), torch.__version__, np.__version__, _processor(),
    )  # fmt: skip
    for part in parts:
        digest.update(part.encode() + b"\n")
    for name, array in model.state().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _processor() -> str:
    """The name of the processor; another one may round differently."""
    if device() == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = next((line for line in lines if line.startswith("model name")), platform.processor())
    return f"{named} {torch.backends.cpu.get_cpu_capability()}"

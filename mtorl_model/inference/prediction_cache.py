"""What the model said of every user, kept so that it need not be asked again.

An answer is a function of the encoded window and of the model (answers.py), so it is found by a digest of that window,
among the answers of the dataset's last scoring, if that was by the same model, code, libraries and kind of processor:
then it is the very number that asking again would give. `LAKE/answer_cache/dataset=.../` holds them; it may be deleted
at any time.

It saves work where a day's journeys are repaired and scored again. From one night to the next it saves work only under
a feature spec that keeps no clock: the step to score is one at the end of the day, so `gap_s` and the other seconds
since an event are new for every user every night.
"""

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from lakehouse.code_version import code_version
from lakehouse.files import make_durable, replace_files
from lakehouse.lake import Lake
from mtorl_model.inference.prediction import device
from mtorl_model.methods.mtorl.artifact import Artifact
from schemas.dataset import Dataset

CACHE = "answer_cache"
_HEADER = 64  # bytes of an identity
_RECORDS_PER_READ = 65_536

Records = npt.NDArray[np.void]


def record_type(artifact: Artifact) -> np.dtype[np.void]:
    """A user's answer. inputs: digest of the encoded window, all that the rest depends on beside the model."""
    actions, gains, steps = len(artifact.spec.channels), len(artifact.spec.gains), artifact.config.steps
    return np.dtype([
        ("inputs", np.uint64, 2),
        ("policy", np.float64, actions),  # sums to 1
        ("gains", np.float64, gains),
        ("reliable", np.bool_, steps),  # remembered step with a predicted click above tau; the last one is the newest
        ("shown", np.int32),  # exposures in channels that the model knows
    ])  # fmt: skip


class AnswerFile:
    """Records behind the identity of the model that they are of, on disk: only what is asked for is in memory."""

    def __init__(self, file: BinaryIO, record: np.dtype[np.void]) -> None:
        self._file = file  # open: it stays this one, whatever takes its place in the lake meanwhile
        self._record = record

    @classmethod
    def create(cls, path: Path, identity: str, record: np.dtype[np.void]) -> "AnswerFile":
        file = path.open("w+b")
        file.write(identity.encode())
        return cls(file, record)

    def is_of(self, identity: str) -> bool:
        self._file.seek(0)
        return self._file.read(_HEADER) == identity.encode()

    def append(self, records: Records) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(records.tobytes())

    def take(self, rows_X: npt.NDArray[np.int64]) -> Records:
        """Copies of these records (at least one)."""
        self._file.flush()
        # Mapped anew each time, so that what was read before does not stay in memory.
        return np.memmap(self._file, self._record, mode="r", offset=_HEADER)[rows_X]

    def pieces(self) -> Iterator[Records]:
        """All records in their order, some at a time."""
        self._file.seek(_HEADER)
        while piece := self._file.read(_RECORDS_PER_READ * self._record.itemsize):
            yield np.frombuffer(piece, self._record)

    def close(self) -> None:
        self._file.close()


class Earlier:
    """Answers of an earlier scoring by the same model, to be found by the inputs that they were given to.

    Half of each digest is held in memory, with its place in the file.
    """

    def __init__(self, answers: AnswerFile) -> None:
        self._answers = answers
        first_U = np.concatenate([np.empty(0, np.uint64), *(part["inputs"][:, 0].copy() for part in answers.pieces())])
        self._order = np.argsort(first_U)
        self._first_U = first_U[self._order]
        self._one_by_one = Lock()  # scoring threads share the file's position

    def find(self, inputs_N2: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.bool_], Records | None]:
        """Which of the inputs have an answer, and the answers of those that have."""
        if not len(self._order):
            return np.zeros(len(inputs_N2), dtype=bool), None
        place_N = np.searchsorted(self._first_U, inputs_N2[:, 0]).clip(max=len(self._order) - 1)
        with self._one_by_one:
            records_N = self._answers.take(self._order[place_N])
        found_N = (records_N["inputs"] == inputs_N2).all(axis=1)
        return found_N, records_N[found_N]


@contextmanager
def earlier_answers(lake: Lake, artifact: Artifact, dataset: Dataset) -> Iterator[Earlier | None]:
    """The kept answers, None where there are none of this model."""
    try:
        file = _kept(lake, dataset).open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        answers = AnswerFile(file, record_type(artifact))
        yield Earlier(answers) if answers.is_of(identity(artifact)) else None


def keep_answers(lake: Lake, dataset: Dataset, staged: Path) -> None:
    """Put a staged file of answers in place of those of the dataset's last scoring."""
    make_durable(staged)
    replace_files([staged], [_kept(lake, dataset)])


def _kept(lake: Lake, dataset: Dataset) -> Path:
    return lake.table(CACHE, dataset) / "answers.bin"


def identity(artifact: Artifact) -> str:
    """All that an answer depends on beside the window: SHA-256 over model, code, library and processor."""
    digest = hashlib.sha256()
    parts = (
        artifact.config.to_json(), artifact.spec.version, artifact.initial_policy.to_json(),
        code_version("mtorl_model"), torch.__version__, np.__version__, _processor(),
    )  # fmt: skip
    for part in parts:
        digest.update(part.encode() + b"\n")
    for model in artifact.models:
        for name, weight in model.state_dict().items():
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _processor() -> str:
    """The name of what computes: another one may round otherwise."""
    if device() == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = next((line for line in lines if line.startswith("model name")), platform.processor())
    return f"{named} {torch.backends.cpu.get_cpu_capability()}"

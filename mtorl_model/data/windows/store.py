"""Windows on disk: one split of `sequences` over a range of days, encoded once, mapped into memory, read in batches.

A step is in several windows. It is encoded and stored once, and a batch gathers the steps of its windows. The encoded
arrays are in a folder of the scratch folder, one .npy file each. They are a cache that can be deleted at any time. They
are encoded again when a partition, the feature spec, the reward inputs or the encoder's code has changed. Encoding
needs memory for the steps of one part of the users, and reading for those of a batch.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch

from features import channel_counts
from lakehouse.lake import Lake
from lakehouse.reading import consistent_read
from lakehouse.storage.files import file_sha256
from lakehouse.storage.scratch import scratch_folder, work_folder
from mtorl_model.data import batch, delayed_feedback, encoding, propensities, reward_inputs
from mtorl_model.data.batch import Batch
from mtorl_model.data.delayed_feedback import LabelCutoff
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.propensities import Propensities, read_propensities
from mtorl_model.data.windows import encoded_steps, journey_rows, reading
from mtorl_model.data.windows.array_files import ArrayFiles, mapped
from mtorl_model.data.windows.encoded_steps import STEP_ARRAYS, EncodedSteps, Rows, StepArrays, WindowArrays, Windows
from mtorl_model.data.windows.journey_rows import JourneyRows, StepReader
from mtorl_model.data.windows.reading import padded_lists, partitions_read, step_columns, window_length, window_parts
from schemas.dataset import Dataset
from schemas.days import days_between
from schemas.errors import Busy, UserError
from schemas.steps import profile_inputs
from schemas.tables import EXPOSURES, SEQUENCES, STEPS

CACHE = "windows"
_DIGEST_DIGITS = 16
_META = "_meta.json"
_STEPS_PER_CHUNK = 65_536

Ints = npt.NDArray[np.int64]

T = TypeVar("T")


class WindowStore:
    """The windows of one split and range of days that have at least one label.

    user_N: a number for each window's user, int64. labels_are_final: whether no gain of a label may still follow.
    """

    windows: Windows
    user_N: Ints

    def __init__(self, folder: Path, key: str, length: int) -> None:
        """Map the arrays of a folder that `open_windows` has written. length: positions of a window."""
        self.key = key  # equal if and only if everything that the windows depend on is equal
        steps = StepArrays(*(mapped(folder / f"{name}.npy") for name in StepArrays._fields))
        windows = WindowArrays(*(mapped(folder / f"{name}.npy") for name in WindowArrays._fields))
        self.windows = EncodedSteps(steps, windows, length)
        self.user_N = windows.user_N
        self.labels_are_final = bool((steps.maturity_MG[:] == 1).all())

    def __len__(self) -> int:
        return len(self.user_N)

    def propensity_NL(self, rows: Rows) -> npt.NDArray[np.float32]:
        """[N, L]: the probability with which the log drew each label's channel at random, 0 if unknown; 0 elsewhere."""
        assert isinstance(self.windows, EncodedSteps)
        return self.windows.propensity_NL(rows)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Number of batches of an epoch; the last one may be smaller."""
        return -(-len(self) // batch_size)

    def batches(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        start_step: int = 0,
        parts: int = 1,
        own_parts: slice = slice(None),
    ) -> Iterator[Batch]:
        """Every window once, in an order that depends only on seed and epoch; starts at batch `start_step`.

        Each batch is yielded as `parts` micro-batches, one after another, and only those in the slice `own_parts` are
        made. If the last batch has fewer windows than parts, windows without labels fill it up.
        """
        order = np.random.default_rng([seed, epoch]).permutation(len(self))
        for start in range(start_step * batch_size, len(order), batch_size):
            rows = order[start : start + batch_size]
            for part in np.array_split(rows, parts)[own_parts]:
                # The order within a part does not matter; sorted rows are read from the files front to back.
                yield self.windows.take(np.sort(part)).batch() if len(part) else self._unlabelled(rows[:1])

    def in_order(self, batch_size: int, *, first: int = 0, stride: int = 1) -> Iterator[Batch]:
        """The batches first, first + stride, ... of the windows in the order of the table."""
        for start in range(first * batch_size, len(self), stride * batch_size):
            yield self.windows.take(slice(start, start + batch_size)).batch()

    def _unlabelled(self, rows: npt.NDArray[np.int64]) -> Batch:
        batch = self.windows.take(rows).batch()
        return batch._replace(label_BL=torch.zeros_like(batch.label_BL))


class WindowsInMemory(WindowStore):
    """Windows in memory with the interface of a store on disk. By default no two windows have the same user."""

    windows: Encoded

    def __init__(
        self, windows: Encoded, user_N: Ints | None = None, propensity_NL: npt.NDArray[np.float32] | None = None
    ) -> None:
        self.key, self.windows = "in memory", windows
        self.user_N = np.arange(len(windows.valid_NL)) if user_N is None else user_N
        unknown_NL = np.zeros(windows.valid_NL.shape, np.float32)
        self._propensity_NL = unknown_NL if propensity_NL is None else propensity_NL
        self.labels_are_final = bool((windows.maturity_NLG == 1).all())

    def propensity_NL(self, rows: Rows) -> npt.NDArray[np.float32]:
        """See WindowStore.propensity_NL."""
        return self._propensity_NL[rows]


def open_windows(
    lake: Lake, encoder: Encoder, first_day: str, last_day: str, split: str, cutoff: LabelCutoff | None = None
) -> WindowStore:
    """The windows of a split on the published days from first to last, from the cache if it is current.

    cutoff: labels contain the outcome as it was known at that moment; None: the full outcome that the lake has. Raises
    UserError if there are no sequences, or if the split has no window with a label; Busy if another run publishes one
    of the days at the same time.
    """
    dataset, span = encoder.dataset, set(days_between(first_day, last_day))
    days = [day for day in lake.days(SEQUENCES, dataset) if day in span]
    if not days:
        raise UserError(
            f"no sequences for {dataset.name} from {first_day} to {last_day} in {lake.root}: "
            "run these days first (make run)"
        )
    key = _content_key(lake, encoder, days, split, cutoff)
    digest = hashlib.sha256(key.encode()).hexdigest()[:_DIGEST_DIGITS]
    folder = scratch_folder(CACHE) / f"{dataset.name}_{split}_{first_day}_{last_day}_{digest}"
    if not _is_current(folder, key):
        shutil.rmtree(folder, ignore_errors=True)  # damaged windows
        with work_folder() as work, consistent_read(partitions_read(lake, dataset, days)):
            staged = work / folder.name
            staged.mkdir()
            if _content_key(lake, encoder, days, split, cutoff) != key:
                raise Busy(f"another run has just published sequences of {dataset.name}: run again")
            length = _write(lake, encoder, days, split, staged, cutoff)
            if length is None:
                raise UserError(
                    f"no {split} windows for {dataset.name} from {first_day} to {last_day} in {lake.root}: "
                    "add days, or a log with more users"
                )
            checksums = {path.name: file_sha256(path) for path in sorted(staged.iterdir())}
            (staged / _META).write_text(json.dumps({"key": key, "length": length, "checksums": checksums}))
            _move_windows(staged, folder, key)
    return WindowStore(folder, key, json.loads((folder / _META).read_text())["length"])


def _move_windows(staged: Path, folder: Path, key: str) -> None:
    """Move complete windows to the folder of their key. Another process may have moved the same ones there before."""
    try:
        staged.rename(folder)
    except OSError:
        if not _is_current(folder, key):
            raise


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches on the device. For a GPU, a thread gathers and pins the next batch while the GPU computes."""
    if device.type != "cuda":
        yield from batches
        return

    def pinned(gpu: int) -> Iterator[Batch]:
        torch.cuda.set_device(gpu)  # a new thread uses the first GPU
        for pageable in batches:
            yield Batch(*(tensor.pin_memory() for tensor in pageable))

    for pinned_batch in prefetch(pinned(torch.cuda.current_device())):
        yield pinned_batch.to_device(str(device), non_blocking=True)


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """The same items in the same order. A thread makes the next item while the caller uses the current one."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        next_item = thread.submit(next, items, None)
        while (item := next_item.result()) is not None:
            next_item = thread.submit(next, items, None)
            yield item


def _content_key(lake: Lake, encoder: Encoder, days: list[str], split: str, cutoff: LabelCutoff | None) -> str:
    """SHA-256 of everything that the encoded windows depend on."""
    dataset = encoder.spec.dataset
    published = lake.manifests(dataset, [SEQUENCES, STEPS, EXPOSURES])
    for day in days:
        lake[SEQUENCES, dataset, day].require()
    # The inputs of sequences are all exposures so far: their context may be in steps of any earlier day.
    manifests = [published[SEQUENCES][day] for day in days]
    fingerprints = [
        published[table][day].fingerprint for table in (STEPS, EXPOSURES) for day in days if day in published[table]
    ]
    modules = (
        batch, channel_counts, delayed_feedback, encoded_steps, encoding, journey_rows, propensities, reward_inputs,
        reading,
    )  # fmt: skip
    code = [file_sha256(Path(file)) for file in (*(module.__file__ or "" for module in modules), __file__)]
    parts = (
        split, encoder.reward_inputs.name, encoder.spec.version, *code,
        *(json.dumps([m.fingerprint, sorted(m.inputs.items())]) for m in manifests), *fingerprints,
        cutoff.key if cutoff else "",
    )  # fmt: skip
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _is_current(folder: Path, key: str) -> bool:
    """Whether the folder has the windows of this key. Windows that are damaged are not current."""
    try:
        meta = json.loads((folder / _META).read_text())
        if meta["key"] != key:
            return False
        is_whole = all(file_sha256(folder / name) == checksum for name, checksum in meta["checksums"].items())
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError, AttributeError):
        is_whole = False
    if not is_whole:
        print(f"{folder} is damaged: made again")
    return is_whole


def _write(
    lake: Lake, encoder: Encoder, days: list[str], split: str, folder: Path, cutoff: LabelCutoff | None
) -> int | None:
    """Encode the split's windows into .npy files; returns the length of a window, None without any window."""
    dataset, length, first_row = encoder.dataset, None, 0
    reader = StepReader.up_to(lake, dataset, days[-1])
    known = read_propensities(lake[EXPOSURES, dataset, day] for day in days)
    with ArrayFiles(folder, StepArrays._fields) as step_files, ArrayFiles(folder, WindowArrays._fields) as window_files:
        for part, windows in window_parts(lake, dataset, days, split):
            length = window_length(windows)
            columns = (*encoder.columns, *(encoder.time_columns if cutoff else ()), "exposure_id")
            profile = {column.name for column in profile_inputs(dataset)}
            names = [name for name in dict.fromkeys(columns) if name not in profile]
            journeys = reader.read(windows, days, part, step_columns(dataset, names))
            has_channel = []
            for start in range(0, len(journeys.rows), _STEPS_PER_CHUNK):
                rows = journeys.rows.slice(start, _STEPS_PER_CHUNK)
                encoded = _encoded_steps(rows, encoder, dataset, names, cutoff, known)
                has_channel.append(encoded.has_channel_M)
                step_files.add(encoded)
            labelled = _labelled_windows(windows, journeys, np.concatenate(has_channel), first_row, encoder)
            window_files.add(labelled)
            first_row += len(journeys.rows)
        return length if window_files.rows else None


def _encoded_steps(
    rows: pa.Table, encoder: Encoder, dataset: Dataset, names: list[str], cutoff: LabelCutoff | None,
    known: Propensities,
) -> StepArrays:  # fmt: skip
    """Steps as windows of one position, without that axis."""
    row_M1 = np.arange(len(rows))[:, None]
    is_label_M1 = np.ones(row_M1.shape, dtype=bool)
    windows = padded_lists(rows.select([]), rows, row_M1, is_label_M1, dataset, names, encoder.spec.channels)
    encoded = encoder.encode_steps(windows, cutoff)
    return StepArrays(
        **{step_name: getattr(encoded, name)[:, 0] for name, step_name in STEP_ARRAYS.items()},
        has_channel_M=encoded.label_NL[:, 0],
        propensity_M=known.look_up(rows.column("exposure_id").to_numpy()).astype(np.float32),
    )


def _labelled_windows(
    windows: pa.Table, journeys: JourneyRows, has_channel_M: npt.NDArray[np.bool_], first_row: int, encoder: Encoder
) -> WindowArrays:
    """The windows that have a label. has_channel_M: of all steps of the journeys. first_row: of these steps."""
    first_row_N = journeys.first_rows(windows)
    first_step_N, first_label_N, last_step_N = (
        windows.column(name).to_numpy().astype(np.int64) for name in ("first_step", "first_label", "last_step")
    )
    labels_before_M = np.concatenate([[0], np.cumsum(has_channel_M)])
    first_label_row_N, stop_row_N = (first_row_N + step_N - first_step_N for step_N in (first_label_N, last_step_N + 1))
    has_label_N = labels_before_M[stop_row_N] > labels_before_M[first_label_row_N]
    arrays = WindowArrays(
        first_row_N + first_row, last_step_N + 1 - first_step_N, last_step_N + 1 - first_label_N,
        *encoder.encode_profile(windows), user_numbers(windows),
    )  # fmt: skip
    return WindowArrays(*(array[has_label_N] for array in arrays))


def user_numbers(windows: pa.Table | pa.RecordBatch) -> Ints:
    """[N]: a number for the user of each window, which depends on the user's id alone."""
    users = windows.column("user_id")
    ids = users.to_numpy(zero_copy_only=False)
    number_N: Ints = pd.util.hash_array(ids).view(np.int64) if pa.types.is_string(users.type) else ids.astype(np.int64)
    return number_N


def label_propensities(
    windows: pa.Table | pa.RecordBatch, encoded: Encoded, propensities: Propensities
) -> npt.NDArray[np.float32]:
    """[N, L]: the propensity of each label step; 0 elsewhere."""
    column = windows.column("exposure_id")
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    exposure_NL = lists.flatten().fill_null(-1).to_numpy(zero_copy_only=False).reshape(encoded.label_NL.shape)
    propensity_NL: npt.NDArray[np.float32] = (propensities.look_up(exposure_NL) * encoded.label_NL).astype(np.float32)
    return propensity_NL

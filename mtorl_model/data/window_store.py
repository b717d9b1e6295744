"""Windows on disk: one split of `sequences` over a range of days, encoded once, mapped into memory, read in batches.

The encoded arrays are in a folder of the scratch folder, one .npy file for each field of `Encoded`. They are a cache
that can be deleted at any time. They are encoded again when a partition, the feature spec, the reward inputs or the
encoder's code has changed. Neither encoding nor reading needs memory for all windows.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import torch

from lakehouse.lake import Lake
from lakehouse.reading import consistent_read
from lakehouse.storage.files import file_sha256
from lakehouse.storage.scratch import scratch_folder, work_folder
from mtorl_model.data import batch, delayed_feedback, encoding, propensities, reward_inputs
from mtorl_model.data.batch import Batch
from mtorl_model.data.delayed_feedback import LabelCutoff
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.propensities import Propensities, read_propensities
from schemas.days import days_between
from schemas.errors import Busy, UserError
from schemas.tables import EXPOSURES, SEQUENCES

CACHE = "windows"
_DIGEST_DIGITS = 16
_META = "_meta.json"
_ROWS_PER_CHUNK = 4096
NOT_INPUTS = ("user_N", "propensity_NL")  # files in addition to those of Encoded

Ints = npt.NDArray[np.int64]

T = TypeVar("T")


class WindowStore:
    """The windows of one split and range of days that have at least one label.

    user_N: a number for each window's user, int64. propensity_NL: the probability with which the log drew the step's
    channel at random, float32; 0 if it is unknown, and at all steps without a label.
    """

    def __init__(self, folder: Path, key: str) -> None:
        """Map the arrays of a folder that `open_windows` has written."""
        self.key = key  # equal if and only if everything that the windows depend on is equal
        self.windows = Encoded(*(_mapped(folder / f"{name}.npy") for name in Encoded._fields))
        self.user_N, self.propensity_NL = (_mapped(folder / f"{name}.npy") for name in NOT_INPUTS)

    def __len__(self) -> int:
        return len(self.windows.valid_NL)

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

    def __init__(
        self, windows: Encoded, user_N: Ints | None = None, propensity_NL: npt.NDArray[np.float32] | None = None
    ) -> None:
        self.key, self.windows = "in memory", windows
        self.user_N = np.arange(len(windows.valid_NL)) if user_N is None else user_N
        unknown_NL = np.zeros(windows.valid_NL.shape, np.float32)
        self.propensity_NL = unknown_NL if propensity_NL is None else propensity_NL


def open_windows(
    lake: Lake, encoder: Encoder, first_day: str, last_day: str, split: str, cutoff: LabelCutoff | None = None
) -> WindowStore:
    """The windows of a split on the published days from first to last, from the cache if it is current.

    cutoff: labels contain the outcome as it was known at that moment; None: the full outcome that the lake has. Raises
    UserError if there are no sequences, if they were cut with another feature spec, or if the split has no window with
    a label; Busy if another run publishes one of the days at the same time.
    """
    dataset, span = encoder.spec.dataset, set(days_between(first_day, last_day))
    days = [day for day in lake.days(SEQUENCES, dataset) if day in span]
    if not days:
        raise UserError(
            f"no sequences for {dataset} from {first_day} to {last_day} in {lake.root}: run these days first (make run)"
        )
    key = _content_key(lake, encoder, days, split, cutoff)
    digest = hashlib.sha256(key.encode()).hexdigest()[:_DIGEST_DIGITS]
    folder = scratch_folder(CACHE) / f"{dataset}_{split}_{first_day}_{last_day}_{digest}"
    if not _is_current(folder, key):
        shutil.rmtree(folder, ignore_errors=True)  # damaged windows
        partitions = [lake[table, dataset, day] for table in (SEQUENCES, EXPOSURES) for day in days]
        with work_folder() as work, consistent_read(partitions):
            staged = work / folder.name
            staged.mkdir()
            if _content_key(lake, encoder, days, split, cutoff) != key:
                raise Busy(f"another run has just published sequences of {dataset}: run again")
            if not _write(lake, encoder, days, split, staged, cutoff):
                raise UserError(
                    f"no {split} windows for {dataset} from {first_day} to {last_day} in {lake.root}: "
                    "add days, or a log with more users"
                )
            checksums = {path.name: file_sha256(path) for path in sorted(staged.iterdir())}
            (staged / _META).write_text(json.dumps({"key": key, "checksums": checksums}))
            _move_windows(staged, folder, key)
    return WindowStore(folder, key)


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
    manifests = [lake[SEQUENCES, encoder.spec.dataset, day].require() for day in days]
    for manifest in manifests:
        if manifest.spec_version != encoder.spec.version:
            raise UserError(
                f"the sequences of {manifest.dataset} on {manifest.ds} were cut with feature spec "
                f"{manifest.spec_version}, not {encoder.spec.version}: run that day again (make backfill)"
            )
    exposures = lake.fingerprints(EXPOSURES, encoder.spec.dataset, days).values()
    modules = [module.__file__ or "" for module in (batch, delayed_feedback, encoding, propensities, reward_inputs)]
    code = [file_sha256(Path(file)) for file in (*modules, __file__)]
    parts = (
        split, encoder.reward_inputs.name, encoder.spec.version, *code, *(m.fingerprint for m in manifests), *exposures,
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


def _write(lake: Lake, encoder: Encoder, days: list[str], split: str, folder: Path, cutoff: LabelCutoff | None) -> int:
    """Encode the split's windows into .npy files; returns the number of windows."""
    rows = 0
    with ExitStack() as open_files:
        names = (*Encoded._fields, *NOT_INPUTS)
        files = [open_files.enter_context((folder / f"{name}.npy").open("wb")) for name in names]
        part = None
        for part in _encoded_parts(lake, encoder, days, split, cutoff):
            for file, array in zip(files, part, strict=True):
                if rows == 0:
                    _write_header(file, array, rows)
                file.write(array.tobytes())
            rows += len(part[0])
        if part is not None:
            for file, array in zip(files, part, strict=True):
                file.seek(0)
                _write_header(file, array, rows)
    return rows


def _write_header(file: BinaryIO, like: npt.NDArray[Any], rows: int) -> None:
    """Write the .npy header of an array of `rows` rows like those of `like`.

    NumPy pads headers, so that a header with another number of rows has the same length and can replace this one.
    """
    header = {"descr": like.dtype.str, "fortran_order": False, "shape": (rows, *like.shape[1:])}
    np.lib.format.write_array_header_1_0(file, header)


def _encoded_parts(
    lake: Lake, encoder: Encoder, days: list[str], split: str, cutoff: LabelCutoff | None
) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """The split's windows with a label, in chunks of a few thousand, in the order of days and files.

    The arrays of Encoded, and after them those of NOT_INPUTS.
    """
    times = encoder.time_columns if cutoff else ()
    columns = list(dict.fromkeys((*encoder.columns, *times, "user_id", "exposure_id")))
    for day in days:
        known = read_propensities([lake[EXPOSURES, encoder.spec.dataset, day]])
        partition = lake[SEQUENCES, encoder.spec.dataset, day]
        files = [str(file) for file in partition.files()]
        try:
            source = pads.dataset(files, format="parquet")
            missing = sorted({*columns, "split"} - set(source.schema.names))
            if missing:
                raise UserError(f"{partition.path} lacks the column {missing[0]}: build it again (make backfill)")
            parts = source.to_batches(
                columns=columns, filter=pc.field("split") == split, batch_size=_ROWS_PER_CHUNK,
                batch_readahead=2, fragment_readahead=1,
            )  # fmt: skip
            for part in parts:
                encoded = encoder.encode(part, cutoff)
                labelled = np.flatnonzero(encoded.label_NL.any(axis=1))
                if len(labelled):
                    extra = user_numbers(part), label_propensities(part, encoded, known)
                    yield (*encoded.take(labelled), *(array[labelled] for array in extra))
        except pa.ArrowInvalid as error:
            raise UserError(f"{partition.path} cannot be read ({error}): build it again (make backfill)") from error


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


def _mapped(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return array

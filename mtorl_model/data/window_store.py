"""Windows on disk: a split of some days of `sequences`, encoded once, mapped into memory, read in batches.

The encoded arrays lie in `LAKE/window_cache/dataset=.../<split>_<first>_<last>/` as .npy files, one a field of
`Encoded`. They are a cache: anybody may delete them, and they are made anew when a partition, the feature
spec, the reward inputs or the encoder's code changes. Neither making nor reading them needs the data in memory.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import torch

from lakehouse.files import file_sha256, swap_into_place
from lakehouse.lake import Lake
from lakehouse.reading import consistent_read
from lakehouse.staging import staging_folder
from mtorl_model.data import batch, delayed_feedback, encoding, reward_inputs
from mtorl_model.data.batch import Batch
from mtorl_model.data.delayed_feedback import KnownBy
from mtorl_model.data.encoding import Encoded, Encoder
from schemas.days import days_between
from schemas.errors import Busy, UserError
from schemas.tables import SEQUENCES

CACHE = "window_cache"
_META = "_meta.json"
_ROWS_AT_ONCE = 4096

T = TypeVar("T")


class WindowStore:
    """The windows of one split and range of days that bear at least one label."""

    def __init__(self, folder: Path, key: str) -> None:
        """Map a cache folder that `open_windows` has made."""
        self.key = key  # changes with the content, and with nothing else
        self.windows = Encoded(*(_mapped(folder / f"{name}.npy") for name in Encoded._fields))

    def __len__(self) -> int:
        return len(self.windows.valid_NL)

    def steps_per_epoch(self, batch_size: int) -> int:
        return -(-len(self) // batch_size)

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, start_step: int = 0, parts: int = 1, mine: slice = slice(None)
    ) -> Iterator[Batch]:
        """Every window once, in an order that depends on (seed, epoch) alone; from `start_step` on.

        Each batch comes in `parts` micro-batches, one after another, of which only those of `mine` are made. A last
        batch of fewer windows than parts is filled up with a window that bears no label.
        """
        order = np.random.default_rng([seed, epoch]).permutation(len(self))
        for start in range(start_step * batch_size, len(order), batch_size):
            rows = order[start : start + batch_size]
            for part in np.array_split(rows, parts)[mine]:
                # Sorted: within a part no order matters, and the files are read from front to back.
                yield self.windows.take(np.sort(part)).batch() if len(part) else self._unlabelled(rows[:1])

    def in_order(self, batch_size: int, *, every: int = 1, first: int = 0) -> Iterator[Batch]:
        """Every window once, in the order of the table; of the batches only each `every`-th, from `first` on."""
        for start in range(first * batch_size, len(self), every * batch_size):
            yield self.windows.take(slice(start, start + batch_size)).batch()

    def _unlabelled(self, rows: npt.NDArray[np.int64]) -> Batch:
        batch = self.windows.take(rows).batch()
        return batch._replace(label_BL=torch.zeros_like(batch.label_BL))


class WindowsInMemory(WindowStore):
    """Windows in memory, read as those of a store on disk."""

    def __init__(self, windows: Encoded) -> None:
        self.key, self.windows = "in memory", windows


def open_windows(
    lake: Lake, encoder: Encoder, first_day: str, last_day: str, split: str, known_by: KnownBy | None = None
) -> WindowStore:
    """The store of a split over the published days from first to last, from the cache where it is current.

    known_by: the moment whose knowledge the labels hold; None: their full outcome, as far as the lake has it.
    Raises UserError where there are no sequences, where they were cut with another feature spec, or where the
    split has no window with a label; Busy where a day is published anew meanwhile.
    """
    dataset, span = encoder.spec.dataset, set(days_between(first_day, last_day))
    days = [day for day in lake.days(SEQUENCES, dataset) if day in span]
    if not days:
        raise UserError(
            f"no sequences for {dataset} from {first_day} to {last_day} in {lake.root}: run these days first (make run)"
        )
    key = _content_key(lake, encoder, days, split, known_by)
    folder = lake.table(CACHE, dataset) / f"{split}_{first_day}_{last_day}"
    if not _is_current(folder, key):
        partitions = [lake[SEQUENCES, dataset, day].path for day in days]
        with staging_folder(lake) as staged, consistent_read(partitions):
            if _content_key(lake, encoder, days, split, known_by) != key:
                raise Busy(f"the sequences of {dataset} were published anew just now: run again")
            if not _write(lake, encoder, days, split, staged, known_by):
                raise UserError(
                    f"no {split} windows for {dataset} from {first_day} to {last_day} in {lake.root}: "
                    "add days, or a log with more users"
                )
            (staged / _META).write_text(json.dumps({"key": key}))
            swap_into_place(staged, folder)
    return WindowStore(folder, key)


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches on the device; for a GPU, gathered and pinned by a thread while the GPU computes."""
    if device.type != "cuda":
        yield from batches
        return

    def pinned(gpu: int) -> Iterator[Batch]:
        torch.cuda.set_device(gpu)  # each thread starts with the first one
        for pageable in batches:
            yield Batch(*(tensor.pin_memory() for tensor in pageable))

    for ready in one_ahead(pinned(torch.cuda.current_device())):
        yield ready.to(str(device), non_blocking=True)


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items in the same order; the next one is made by a thread while the caller uses this one."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        ahead = thread.submit(next, items, None)
        while (item := ahead.result()) is not None:
            ahead = thread.submit(next, items, None)
            yield item


def _content_key(lake: Lake, encoder: Encoder, days: list[str], split: str, known_by: KnownBy | None) -> str:
    """SHA-256 over all that the encoded windows depend on."""
    manifests = [lake[SEQUENCES, encoder.spec.dataset, day].require() for day in days]
    for manifest in manifests:
        if manifest.spec_version != encoder.spec.version:
            raise UserError(
                f"the sequences of {manifest.dataset} on {manifest.ds} were cut with feature spec "
                f"{manifest.spec_version}, not {encoder.spec.version}: run that day again (make backfill)"
            )
    modules = [module.__file__ or "" for module in (batch, delayed_feedback, encoding, reward_inputs)]
    code = [file_sha256(Path(file)) for file in (*modules, __file__)]
    parts = (
        split, encoder.reward_inputs.name, encoder.spec.version, *code, *(m.fingerprint for m in manifests),
        known_by.key if known_by else "",
    )  # fmt: skip
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _is_current(folder: Path, key: str) -> bool:
    meta = folder / _META
    return meta.exists() and bool(json.loads(meta.read_text())["key"] == key)


def _write(lake: Lake, encoder: Encoder, days: list[str], split: str, folder: Path, known_by: KnownBy | None) -> int:
    """Encode the split's windows into .npy files; the number of windows."""
    rows = 0
    with ExitStack() as open_files:
        files = [open_files.enter_context((folder / f"{name}.npy").open("wb")) for name in Encoded._fields]
        part = None
        for part in _encoded_parts(lake, encoder, days, split, known_by):
            for file, array in zip(files, part, strict=True):
                if rows == 0:
                    _write_header(file, array, rows)
                file.write(array.tobytes())
            rows += len(part.valid_NL)
        if part is not None:
            for file, array in zip(files, part, strict=True):
                file.seek(0)
                _write_header(file, array, rows)
    return rows


def _write_header(file: BinaryIO, like: npt.NDArray[Any], rows: int) -> None:
    """The .npy header of `rows` rows shaped as those of `like`; NumPy pads it, so that it can be rewritten in place."""
    header = {"descr": like.dtype.str, "fortran_order": False, "shape": (rows, *like.shape[1:])}
    np.lib.format.write_array_header_1_0(file, header)


def _encoded_parts(
    lake: Lake, encoder: Encoder, days: list[str], split: str, known_by: KnownBy | None
) -> Iterator[Encoded]:
    """The split's windows with a label, a few thousand at a time, in the order of days and files."""
    columns = list(dict.fromkeys((*encoder.columns, *(encoder.time_columns if known_by else ()))))
    for day in days:
        partition = lake[SEQUENCES, encoder.spec.dataset, day].path
        files = [str(path) for path in sorted(partition.glob("*.parquet"))]
        try:
            source = pads.dataset(files, format="parquet")
            missing = sorted({*columns, "split"} - set(source.schema.names))
            if missing:
                raise UserError(f"{partition} lacks the column {missing[0]}: build it again (make backfill)")
            parts = source.to_batches(
                columns=columns, filter=pc.field("split") == split, batch_size=_ROWS_AT_ONCE,
                batch_readahead=2, fragment_readahead=1,
            )  # fmt: skip
            for part in parts:
                encoded = encoder.encode(part, known_by)
                labelled = np.flatnonzero(encoded.label_NL.any(axis=1))
                if len(labelled):
                    yield encoded.take(labelled)
        except pa.ArrowInvalid as error:
            raise UserError(f"{partition} cannot be read ({error}): build it again (make backfill)") from error


def _mapped(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return array

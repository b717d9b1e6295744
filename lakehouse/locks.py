"""Locks on partitions: only one run builds a partition. A second run waits for some time, then stops with a clear line.

A lock covers bytes of the file `LAKE/.locks/<table>.<dataset>`. The number of a byte is the number of the day, so a
range of days is one lock. The operating system releases a lock when its process ends, so no clean-up is needed.
"""

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from typing import BinaryIO

from lakehouse.lake import Lake, dataset_name
from lakehouse.storage.scratch import scratch_folder
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.errors import Busy, UserError

WAIT_S = 900.0  # longer than a day's job takes, shorter than a task's time limit
_POLL_S = 0.2


@contextmanager
def locked(lake: Lake, tables: Iterable[str], dataset: Dataset | str, days: Iterable[str]) -> Iterator[None]:
    """Lock these days, and the days between them, in these tables.

    Raises Busy if another process keeps one of them locked for longer than MTORL_LOCK_WAIT_S seconds, and UserError if
    the lake cannot be written or its file system is unsuitable.
    """
    lake.require_writable()
    days = sorted(days)
    dated = [day for day in days if day != UNDATED]
    ranges = [(0, 1)] if UNDATED in days else []
    if dated:
        first, last = (date.fromisoformat(day).toordinal() for day in (dated[0], dated[-1]))
        ranges.append((first, last - first + 1))
    deadline = time.monotonic() + float(os.environ.get("MTORL_LOCK_WAIT_S", WAIT_S))
    with ExitStack() as open_files:
        for table in sorted(tables):  # always in the same order, so that two runs never wait for each other
            file = open_files.enter_context(_lock_file(lake, table, dataset))  # closing the file releases its locks
            for start, length in ranges:
                partitions = f"{table} of {dataset_name(dataset)}, {UNDATED if start == 0 else _span(dated)}"
                _acquire(file, start, length, partitions, deadline)
        yield


def _span(days: list[str]) -> str:
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def _lock_file(lake: Lake, table: str, dataset: Dataset | str) -> BinaryIO:
    try:
        folder = scratch_folder("locks") / hashlib.sha256(str(lake.root).encode()).hexdigest()[:16]
        folder.mkdir(exist_ok=True)
        return (folder / f"{table}.{dataset_name(dataset)}").open("ab")
    except OSError as error:
        raise UserError(
            f"cannot write to the lake {lake.root}: {error.strerror}; choose another folder with LAKE="
        ) from error


def _acquire(file: BinaryIO, start: int, length: int, partitions: str, deadline: float) -> None:
    """Lock these bytes of the file. Prints a line if it has to wait; raises Busy at the deadline."""
    waiting = False
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        if time.monotonic() >= deadline:
            raise Busy(f"another run is building {partitions}: wait for it, then run again")
        if not waiting:
            print(f"waiting: another run is building {partitions}", flush=True)
            waiting = True
        time.sleep(_POLL_S)

"""One builder a partition: a second run of the same day waits for a while, then stops with a clear line.

A lock is a byte of the file `LAKE/.locks/<table>.<dataset>`, numbered by the day, so that a range of days is one
lock. It ends with its process, however that ends, and nothing has to be cleaned up.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import BinaryIO

from lakehouse.lake import Lake, dataset_name
from lakehouse.staging import require_lake
from lakehouse.storage import no_locks
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.errors import Busy, UserError

WAIT_S = 900.0  # longer than a day's job takes, shorter than a task's time limit
_POLL_S = 0.2


@contextmanager
def locked(lake: Lake, tables: Iterable[str], dataset: Dataset | str, days: Iterable[str]) -> Iterator[None]:
    """Hold these days (and those between them) of these tables; raises Busy where another process keeps one.

    MTORL_LOCK_WAIT_S says how long to wait, in seconds. A UserError where the lake could not hold what is to be built.
    """
    require_lake(lake)
    days = sorted(days)
    dated = [day for day in days if day != UNDATED]
    ranges = [(0, 1)] if UNDATED in days else []
    if dated:
        first, last = (date.fromisoformat(day).toordinal() for day in (dated[0], dated[-1]))
        ranges.append((first, last - first + 1))
    until = time.monotonic() + float(os.environ.get("MTORL_LOCK_WAIT_S", WAIT_S))
    with ExitStack() as held:
        for table in sorted(tables):  # always in one order, so that two runs never wait for each other
            # No `with` around a lock's own life: it ends when its file is closed.
            file = held.enter_context(_lock_file(lake, table, dataset))
            for start, length in ranges:
                what = f"{table} of {dataset_name(dataset)}, {UNDATED if start == 0 else _span(dated)}"
                _acquire(file, start, length, what, until)
        yield


def _span(days: list[str]) -> str:
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def _lock_file(lake: Lake, table: str, dataset: Dataset | str) -> BinaryIO:
    try:
        lake.locks.mkdir(parents=True, exist_ok=True)
        return (lake.locks / f"{table}.{dataset_name(dataset)}").open("ab")
    except OSError as error:
        raise UserError(
            f"cannot write to the lake {lake.root}: {error.strerror}; choose another folder with LAKE="
        ) from error


def _acquire(file: BinaryIO, start: int, length: int, what: str, until: float) -> None:
    said = False
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise (no_locks(Path(file.name), error) or error) from error
        if time.monotonic() >= until:
            raise Busy(f"another run is building {what}: wait for it, then run again")
        if not said:
            print(f"waiting: another run is building {what}", flush=True)
            said = True
        time.sleep(_POLL_S)

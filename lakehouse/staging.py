"""Folders to write into before publishing. They are on the file system of the lake, so that a rename is atomic."""

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakehouse.files import write_whole
from lakehouse.lake import Lake
from lakehouse.storage import lock_error, require_storage
from schemas.errors import UserError


@contextmanager
def staging_folder(lake: Lake) -> Iterator[Path]:
    """An empty folder that is removed at the end. Folders that killed jobs have left behind are removed first.

    Raises UserError if the lake cannot be written or its file system is unsuitable (lakehouse.storage).
    """
    name = uuid.uuid4().hex
    folder, lock = lake.staging / name, lake.staging / f"{name}.lock"
    try:
        lake.staging.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(lake.staging)
        lock_file = lock.open("w")
    except OSError as error:
        raise UserError(
            f"cannot write to the lake {lake.root}: {error.strerror}; choose another folder with LAKE="
        ) from error
    with lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX)  # released when the process ends, even if it is killed
        except OSError as error:
            raise lock_error(lock, error) from error
        folder.mkdir()
        try:
            require_storage(folder)
            yield folder
        finally:
            _remove(folder, lock)


def require_lake(lake: Lake) -> None:
    """Check before any work that partitions can be published in the lake. Raises as `staging_folder` does."""
    with staging_folder(lake):
        pass


def write_to_lake(lake: Lake, path: Path, content: str | bytes) -> None:
    """Write a single file of the lake atomically. A killed job leaves no partial file behind."""
    with staging_folder(lake) as staging:
        write_whole(path, content, staging)


def _remove_abandoned(staging: Path) -> None:
    """Remove the folders of jobs that have ended: their locks are free."""
    for lock in staging.glob("*.lock"):
        try:
            with lock.open() as probe:
                fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(lock.with_suffix(""), lock)
        except (BlockingIOError, FileNotFoundError):
            continue  # the job is alive, or has just removed its folder


def _remove(folder: Path, lock: Path) -> None:
    """Remove the folder, then its lock. If a worker that outlives its driver still writes into it, the lock remains."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        lock.unlink(missing_ok=True)

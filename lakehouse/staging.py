"""A folder to write into before publishing, on the lake's own file system, so that a rename is atomic."""

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakehouse.files import write_whole
from lakehouse.lake import Lake
from lakehouse.storage import no_locks, require_storage
from schemas.errors import UserError


@contextmanager
def staging_folder(lake: Lake) -> Iterator[Path]:
    """An empty folder that is removed afterwards. Folders that killed jobs have left behind are removed first.

    A UserError where the lake's file system cannot hold a lake (lakehouse.storage).
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
            fcntl.flock(lock_file, fcntl.LOCK_EX)  # ends with the process, however it ends
        except OSError as error:
            raise (no_locks(lock, error) or error) from error
        folder.mkdir()
        try:
            require_storage(folder)
            yield folder
        finally:
            _remove(folder, lock)


def require_lake(lake: Lake) -> None:
    """Refuse, before any work, a lake that nothing could be published in. Raises as `staging_folder` does."""
    with staging_folder(lake):
        pass


def write_to_lake(lake: Lake, path: Path, content: str | bytes) -> None:
    """Write a single file of the lake in one step; a kill leaves nothing beside it."""
    with staging_folder(lake) as staging:
        write_whole(path, content, staging)


def _remove_abandoned(staging: Path) -> None:
    """Remove the folders whose job is no longer alive to hold their lock."""
    for lock in staging.glob("*.lock"):
        try:
            with lock.open() as probe:
                fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(lock.with_suffix(""), lock)
        except (BlockingIOError, FileNotFoundError):
            continue  # its job is alive, or has just ended


def _remove(folder: Path, lock: Path) -> None:
    """The lock last, and only once the folder is gone: a worker that outlives its driver may still write to it."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        lock.unlink(missing_ok=True)

"""Lists files with their sizes and times, on this machine or in an object store."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lakehouse.storage.files import is_local
from lakehouse.storage.store_path import store_errors


class StoredFile(NamedTuple):
    """A file. used_at: when it was last changed or, if a cache, read; in seconds since 1970."""

    path: Path
    size: int  # bytes
    used_at: float


def files_below(folder: Path, *, reads_count: bool = False) -> Iterator[StoredFile]:
    """All files below a folder; none if it does not exist. reads_count: a read is a use as well (of a local file)."""
    if not is_local(folder):
        yield from _objects_below(folder)
        return
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            try:
                status = path.lstat()
            except FileNotFoundError:  # another process has just removed it
                continue
            used_at = max(status.st_mtime, status.st_atime) if reads_count else status.st_mtime
            yield StoredFile(path, status.st_size, used_at)


def _objects_below(folder: Path) -> Iterator[StoredFile]:
    with store_errors(folder):
        listed = folder.fs.find(folder.path, detail=True)  # type: ignore[attr-defined]  # of StorePath
    for name, info in listed.items():
        changed = info.get("LastModified") or info.get("last_modified") or info.get("mtime") or info.get("updated")
        if hasattr(changed, "timestamp"):
            yield StoredFile(folder / name.removeprefix(folder.path).lstrip("/"), info["size"], changed.timestamp())  # type: ignore[attr-defined]

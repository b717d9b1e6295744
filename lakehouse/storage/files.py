"""Writes files atomically and durably: a crash or a power cut leaves no partial content.

The files of a lake are paths of this machine or of an object store; both have the methods of pathlib.Path. Stored text
is read back by `read_stored`, which turns damaged content into one clear error.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, TypeVar

from schemas.errors import UserError

T = TypeVar("T")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_local(path: Path) -> bool:
    """Whether a path of the lake is on a file system of this machine, and not in an object store."""
    return isinstance(path, PurePath)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file in one step: a reader sees the old content or the new, and a power cut loses neither.

    A file that already has this content is not touched.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.is_file() and path.read_bytes() == data:
        return
    if not is_local(path):  # an object store replaces an object in one step
        path.write_bytes(data)
        return
    with replacing(path) as staged:
        staged.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden path next to a local path, to write to: at the end it takes the place of `path` in one step.

    After an error, `path` has its former content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield staged
        make_durable(staged)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def stored_files(folder: Path) -> frozenset[tuple[str, int, float | str]]:
    """The names of the JSON files below a folder, with values that change if a file is stored again."""
    if not is_local(folder):
        return folder.listing(".json")  # type: ignore[attr-defined, no-any-return]  # of StorePath
    statuses = {file: file.stat() for file in folder.rglob("*.json")}
    return frozenset((str(file), status.st_size, status.st_mtime_ns) for file, status in statuses.items())


def move_whole(file: Path, target: Path) -> None:
    """Move a local file to a path of the lake in one step: a reader sees the old content or the new."""
    if not is_local(target):
        target.upload(file)  # type: ignore[attr-defined]  # of StorePath
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    make_durable(file)
    try:
        file.replace(target)
    except OSError:  # on another file system
        with replacing(target) as staged:
            shutil.copyfile(file, staged)
        file.unlink()
    make_durable(target.parent)


def read_stored(path: Path, read: Callable[[str], T], advice: str) -> T:
    """Apply `read` to the text of a stored file and return the result. A missing file raises FileNotFoundError.

    Raises UserError, which ends in the advice, if `read` finds other content than the project writes.
    """
    try:
        return read(path.read_text())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}): {advice}") from error


def json_object(text: str) -> dict[str, Any]:
    """The members of an object in JSON. Raises ValueError if the text is anything else."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, not an object")
    return value


def make_durable(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

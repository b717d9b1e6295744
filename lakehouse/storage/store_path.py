"""Where a lake or a raw log is: a path of this machine, or a URI of an object store.

`located` turns the text that a person has typed into a path. A path of an object store has the methods of pathlib.Path.
Endpoints and credentials come from the environment, by the names of the libraries: docs/deploy.md.
"""

import errno
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from upath.extensions import ProxyUPath

from lakehouse.storage.files import is_local
from schemas.errors import Unreachable, UserError

# The package of each kind of store. Other stores have not been looked at.
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfss": "adlfs", "az": "adlfs", "hdfs": "pyarrow"}
# Long enough to be worth a request, and short enough for a header.
_BLOCK_SIZE = 4 << 20
_REFUSED, _NOT_IMPLEMENTED = (409, 412), 501  # HTTP: an object of the name exists; the condition is unknown


def located(text: str) -> Path:
    """The absolute path that a text names, with its links resolved: a path of this machine or a URI, s3://bucket/folder.

    Raises what path_of raises.
    """
    path = path_of(text)
    return path.resolve() if is_local(path) else path


def path_of(text: str) -> Path:
    """The path that a text names, unchanged if it is on this machine.

    Raises UserError if the project does not know the kind of store, or if the store's package is not installed.
    """
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Path(text)
    if scheme == "file":
        return Path(unquote(urlsplit(text).path))
    if scheme not in _PACKAGES:
        raise UserError(f"{text}: write a path of this machine, or a URI of {', '.join(f'{s}://' for s in _PACKAGES)}")
    if not urlsplit(text).netloc:
        raise UserError(f"{text} names no bucket: write {scheme}://BUCKET/FOLDER")
    path = StorePath(text.rstrip("/"), use_listings_cache=False)
    try:
        path.fs  # noqa: B018 - loads the package
    except ImportError as error:
        raise UserError(
            f"{text} needs the package {_PACKAGES[scheme]}: pip install -r requirements-s3.txt for s3://, "
            f"otherwise pip install {_PACKAGES[scheme]}"
        ) from error
    return cast(Path, path)


def openable(path: str) -> Any:
    """An argument for `open` in Python and Arrow: a path on this machine unchanged, or a stream of a remote file."""
    return path_of(path).open("rb") if "://" in path else path


class StorePath(ProxyUPath):
    """A path in an object store.

    is_file, is_dir and exists of UPath return False if the store does not answer; these raise Unreachable. Every method
    does so, or raises UserError if the store refuses access.
    """

    __slots__ = ()

    def is_file(self) -> bool:
        return self._kind() == "file"

    def is_dir(self) -> bool:
        return self._kind() == "directory"

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind() is not None

    def _kind(self) -> str | None:
        try:
            return str(self._info()["type"])
        except FileNotFoundError:
            return None

    def _info(self) -> dict[str, Any]:
        with store_errors(self):
            return dict(self.fs.info(self.path))

    def content_tag(self) -> str:
        """The store's tag of the content, another one for every new content; empty if the store has no tags."""
        return _content_tag(self._info())

    def listing(self, ending: str) -> frozenset[tuple[str, int, str]]:
        """The names of all objects below this path with this ending, with their sizes and content_tag."""
        with store_errors(self):
            objects = self.fs.find(self.path, detail=True)
        return frozenset(
            (name, info["size"], _content_tag(info)) for name, info in objects.items() if name.endswith(ending)
        )

    def stat(self, *, follow_symlinks: bool = True) -> Any:
        with store_errors(self):
            return super().stat()

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: an object store has no folders."""

    def iterdir(self) -> Iterator["StorePath"]:
        with store_errors(self):
            names = self.fs.ls(self.path, detail=False)
        for name in names:
            if (child := name.rstrip("/")) != self.path:  # some stores list the folder itself
                yield self / child.rpartition("/")[2]

    def glob(self, pattern: str, **options: Any) -> Iterator["StorePath"]:
        with store_errors(self):
            yield from list(super().glob(pattern, **options))

    def rglob(self, pattern: str, **options: Any) -> Iterator["StorePath"]:
        with store_errors(self):
            yield from list(super().rglob(pattern, **options))

    def read_bytes(self) -> bytes:
        with store_errors(self):
            return bytes(self.fs.cat_file(self.path))

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def write_bytes(self, data: bytes) -> int:
        """Write the whole object in one step."""
        with store_errors(self):
            self.fs.pipe_file(self.path, data)
        return len(data)

    def obeys_conditions(self) -> bool:
        """Whether the store refuses to overwrite this object, which exists, if a request asks it to.

        Only stores of the S3 kind are checked: some ignore the condition, and some do not know it.
        """
        if self.protocol != "s3":
            return True
        with store_errors(self):
            try:
                self.fs.pipe_file(self.path, b"", mode="create")
            except OSError as error:
                status = _http_status(error)
                if status not in (*_REFUSED, _NOT_IMPLEMENTED):
                    raise
                return status in _REFUSED
        return False

    def write_text(self, data: str, *options: Any, **more_options: Any) -> int:
        return self.write_bytes(data.encode())

    def unlink(self, missing_ok: bool = False) -> None:
        with store_errors(self):
            if missing_ok and not self.fs.exists(self.path):
                return
            self.fs.rm_file(self.path)

    def open(self, mode: str = "r", *options: Any, **more_options: Any) -> Any:
        """The object as a stream to read, of bytes ("rb") or of text ("r")."""
        if mode not in ("r", "rb"):
            raise ValueError(f"an object is written in one step by write_bytes, not opened with {mode!r}")
        with store_errors(self):
            stream = io.BufferedReader(_Reader(self, self.fs.open(self.path, "rb", block_size=_BLOCK_SIZE)), 1 << 16)
        return stream if mode == "rb" else io.TextIOWrapper(stream, encoding="utf-8")

    def ranges(self) -> io.RawIOBase:
        """The object as a stream of which only those bytes are fetched that are read."""
        with store_errors(self):
            return _Reader(self, self.fs.open(self.path, "rb", cache_type="none"))

    def download(self, target: Path) -> None:
        """Copy the object into a file of this machine."""
        with store_errors(self):
            self.fs.get_file(self.path, os.fspath(target))

    def upload(self, file: Path) -> None:
        """Store a file of this machine as this object."""
        with store_errors(self):
            self.fs.put_file(os.fspath(file), self.path)


class _Reader(io.RawIOBase):
    """An object as a raw stream whose errors are those of StorePath."""

    def __init__(self, path: StorePath, file: Any) -> None:
        self._path, self._file = path, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._file.seek(position, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any, /) -> int:
        with store_errors(self._path):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _http_status(error: OSError) -> int:
    """The status with which an S3 store has answered; 0 without an answer."""
    response = getattr(error.__cause__, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _content_tag(info: Mapping[str, Any]) -> str:
    return str(info.get("ETag") or info.get("etag") or "")


@contextmanager
def store_errors(path: Any, kind: type[Exception] = Exception) -> Iterator[None]:
    """Gives the errors of an object store one line. Errors of this machine, and missing objects, pass unchanged.

    path: the file or folder. kind: the class of the store's errors; every package has different ones.
    Raises Unreachable, or UserError if the store refuses the credentials.
    """
    try:
        yield
    except (UserError, FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise
    except kind as error:
        if is_local(path):
            raise
        reason = _first_line(error)
        if isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError":
            raise UserError(
                f"{path}: the object store refuses access ({reason}): check the credentials in the environment "
                "(docs/deploy.md)"
            ) from error
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of this machine's disk
            raise
        raise Unreachable(
            f"{path}: the object store does not answer ({reason}): check that it runs, and its address in the "
            "environment (docs/deploy.md), then run again"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200] or type(error).__name__

"""The data files of tables: stored once under names that follow from their content, and never changed.

In an object store a file is copied to this machine's scratch folder when it is first read.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.storage.delta_table import DataFile
from lakehouse.storage.files import file_sha256, is_local, move_whole, replacing
from lakehouse.storage.scratch import scratch_folder, work_folder
from schemas.errors import UserError

COPIES = "files"  # the scratch folder of copies of remote files
_HASH_DIGITS = 40
_FORMER_DIGITS = 32  # of names that were made from the rows alone
_FORMER_NAME = "was stored by an earlier version of this project: fill a new lake from the raw log"


class DamagedFile(UserError):
    """A data file of a table is missing, or has other content than was stored."""

    def __init__(self, file: Path, fault: str) -> None:
        super().__init__(f"{file} {fault}: make verify lists all damaged files with their remedies")


def store_file(folder: Path, partition: str, file: Path, *, part: str | None = None) -> DataFile:
    """Move a local Parquet file into a table's folder, as <partition>/<part>-<hash of its content>.parquet.

    partition: for example ds=2022-04-24. part: by default the name of the file. No reader sees the file before a commit
    names it.
    """
    path = f"{partition}/{part or file.stem}-{_digest_of(file)}.parquet"
    stored = DataFile(path, file.stat().st_size, pq.read_metadata(file).num_rows)
    if not _is_stored(folder / path):
        move_whole(file, folder / path)
    return stored


def store_table(folder: Path, partition: str, rows: pa.Table) -> DataFile:
    """Store rows in memory as the only file of a partition."""
    with work_folder() as work:
        file = work / "part-0.parquet"
        pq.write_table(rows, file, compression="zstd", write_page_checksum=True)
        return store_file(folder, partition, file)


def _is_stored(target: Path) -> bool:
    """Whether the file is stored with its content, and vacuum spares it until it is committed.

    An object is always stored again: to compare it takes as long as to store it.
    """
    try:
        if is_local(target):
            os.utime(target)  # vacuum removes only files that were not used for days
            return has_its_content(target)
    except FileNotFoundError:
        pass
    return False


def has_its_content(file: Path) -> bool:
    """Whether a stored Parquet file has the content that its name was made from."""
    return _digest_of(file) == _digest_in(file)


def _digest_of(file: Path) -> str:
    return file_sha256(file)[:_HASH_DIGITS]


def _digest_in(file: Path) -> str:
    return file.stem.rpartition("-")[2]


def part_of(file: Path | DataFile) -> str:
    """The part of a day that a stored file has: `part-3`. Tables of the same rows have the same parts."""
    return Path(file.name).stem.rpartition("-")[0]


def file_fault(folder: Path, file: DataFile) -> str:
    """The fault of a stored file, in words; empty if it has the content of its name. Reads the whole file."""
    stored = folder / file.path
    try:
        size, is_whole = stored.stat().st_size, has_its_content(stored)
    except FileNotFoundError:
        return "is missing"
    if size != file.size:
        return f"has {size:,} bytes instead of {file.size:,}"
    return "" if is_whole else _other_content(stored)


def _other_content(stored: Path) -> str:
    is_former = len(_digest_in(stored)) == _FORMER_DIGITS
    return _FORMER_NAME if is_former else "has other content than was stored"


def copy_removed(file: Path) -> bool:
    """Remove a file that is a copy of an object, so that the next run fetches it again; whether it was one."""
    is_copy = scratch_folder(COPIES) in file.parents
    if is_copy:
        file.unlink(missing_ok=True)
    return is_copy


def local_file(folder: Path, file: DataFile) -> Path:
    """The file on this machine. Raises DamagedFile if it is missing, or has another size than was stored."""
    stored = folder / file.path
    if is_local(folder):
        if not stored.exists() or stored.stat().st_size != file.size:
            raise DamagedFile(stored, file_fault(folder, file))
        return stored
    copy = _copy_of(folder, file)
    if _is_whole(copy, file):
        os.utime(copy)  # a copy that is used is not removed
    else:
        try:
            with replacing(copy) as fetched:
                stored.download(fetched)  # type: ignore[attr-defined]  # of StorePath
                if _digest_of(fetched) != _digest_in(stored):
                    raise DamagedFile(stored, _other_content(stored))
        except FileNotFoundError as error:
            raise DamagedFile(stored, "is missing") from error
    return copy


def read_file(
    folder: Path, file: DataFile, columns: Sequence[str] | None = None, *, coded: Sequence[str] = ()
) -> pa.Table:
    """The rows of a stored file, by default with all columns. coded: text columns to read as dictionaries of Arrow.

    Raises DamagedFile as local_file and open_parquet do.
    """
    with open_parquet(local_file(folder, file), coded=coded) as opened:
        return opened.read(columns)


def read_column(folder: Path, file: DataFile, column: str) -> pa.ChunkedArray:
    """A column of a stored file. If an object has no copy on this machine, only the bytes of this column are fetched.

    Raises DamagedFile if it is missing or cannot be decoded. Neither size nor hash of such an object is compared.
    """
    is_here = is_local(folder) or _is_whole(_copy_of(folder, file), file)
    with open_parquet(local_file(folder, file) if is_here else folder / file.path) as opened:
        return opened.read([column]).column(column)


def _copy_of(folder: Path, file: DataFile) -> Path:
    table = hashlib.sha256(str(folder).encode()).hexdigest()[:_HASH_DIGITS]
    return scratch_folder(COPIES) / table / file.path


def _is_whole(copy: Path, file: DataFile) -> bool:
    return copy.exists() and copy.stat().st_size == file.size


@contextmanager
def open_parquet(path: Path, *, coded: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """A stored file. coded: see read_file.

    Raises DamagedFile if it is missing, or if a page that is read differs from its checksum or cannot be decoded.
    """
    try:
        source = nullcontext(path) if is_local(path) else path.ranges()  # type: ignore[attr-defined]  # of StorePath
    except FileNotFoundError as error:
        raise DamagedFile(path, "is missing") from error
    try:
        options = {"read_dictionary": [*coded], "page_checksum_verification": True}
        with source as readable, pq.ParquetFile(readable, **options) as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedFile(path, f"cannot be read ({str(error).splitlines()[0][:100]})") from error

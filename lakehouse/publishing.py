"""Publish a partition in one atomic step, with a manifest that says what it holds and comes from.

A job writes into a staging folder on the lake's own file system; `publish` adds `_manifest.json` and
moves the folder into place: by rename(2) where there is no such partition yet, by
renameat2(RENAME_EXCHANGE) where there is, so that the path always names one whole partition. A job
killed at any moment leaves the old partition or the new, and at most rubbish in staging.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from lakehouse.paths import UNDATED, Lake
from lakehouse.storage import exchange, no_locks, require_storage
from schemas.errors import UserError
from schemas.tables import exposures, quarantine

MANIFEST = "_manifest.json"
FAILED_AUDIT = "fail"  # the verdict of an audit in which a critical rule failed


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a published partition states about itself.

    fingerprint: content_fingerprint of the data files; the jobs write the same rows into the same files
    whatever the parallelism, so equal content has an equal fingerprint.
    inputs: fingerprints of what it was built from, by path below the lake, or raw/<file>: the rows of that day in it.
    """

    table: str
    dataset: str
    ds: str
    rows: int
    fingerprint: str
    inputs: Mapping[str, str]
    code_version: str
    spec_version: str | None
    counts: Mapping[str, int]  # further row counts that the table's story needs, e.g. duplicates


def read_manifest(partition: Path) -> Manifest | None:
    """The manifest of a published partition, or None where there is no partition."""
    try:
        return Manifest(**json.loads((partition / MANIFEST).read_text()))
    except FileNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class FailedAudit:
    """file: the result of the audit. headline: its first critical finding, in one line."""

    file: Path
    headline: str


def failed_audit(lake: Lake, found: Manifest) -> FailedAudit | None:
    """The audit that this very content has failed critically; None where there is none."""
    file = lake.audits(found.dataset) / found.table / f"{found.ds}.json"
    audit = json.loads(file.read_text()) if file.is_file() else {}
    # A verdict is about the content that was audited: after a repair it no longer counts.
    if audit.get("verdict") != FAILED_AUDIT or audit["fingerprint"] != found.fingerprint:
        return None
    return FailedAudit(file, audit.get("headline", ""))


def require_manifest(lake: Lake, table: str, dataset: str, ds: str) -> Manifest:
    """The manifest of a partition to build on; a UserError where there is none or its audit failed critically.

    Exposures stand or fall with what was refused beside them: a failed audit of the day's quarantine, or of the
    undated rows, is one of theirs.
    """
    found = read_manifest(lake.partition(table, dataset, ds))
    if found is None:
        raise UserError(
            f"no {table} for {dataset} on {ds} in {lake.root}: run the day first (make backfill, or make run)"
        )
    beside = (ds, UNDATED) if table == exposures.NAME else ()
    refused = (read_manifest(lake.partition(quarantine.NAME, dataset, day)) for day in beside)
    for part in (found, *filter(None, refused)):
        if failed := failed_audit(lake, part):
            raise UserError(
                f"{part.table} for {dataset} on {part.ds} failed its audit: {failed.headline or 'see its result'}; "
                f"repair the day, run and audit it again ({failed.file})"
            )
    return found


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_fingerprint(folder: Path) -> str:
    """SHA-256 over the sorted hashes of the folder's data files; neither file names nor footers count."""
    hashes = sorted(_content_sha256(p) for p in folder.iterdir() if _is_data(p))
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _content_sha256(path: Path) -> str:
    """SHA-256 of a Parquet file's pages, of any other file's bytes.

    A footer lists a column's encodings in an order that changes from one Java process to the next, so the same
    rows have the same pages but not the same footer.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        if end >= 12:
            file.seek(end - 8)
            footer, magic = struct.unpack("<I4s", file.read(8))
            end -= 8 + footer if magic == b"PAR1" else 0
        file.seek(0)
        digest, left = hashlib.sha256(), end
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def code_version(*packages: str) -> str:
    """Twelve hex digits over the source files of the named top-level packages (schemas and lakehouse are always in)."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for package in sorted({"schemas", "lakehouse", *packages}):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def staging_folder(lake: Lake) -> Iterator[Path]:
    """A fresh folder to write into; gone afterwards. What killed jobs have left behind is swept away first.

    A UserError where the lake's file system cannot hold one (lakehouse.storage).
    """
    name = uuid.uuid4().hex
    folder, lock = lake.staging / name, lake.staging / f"{name}.lock"
    try:
        lake.staging.mkdir(parents=True, exist_ok=True)
        _sweep(lake.staging)
        holder = lock.open("w")
    except OSError as error:
        raise UserError(
            f"cannot write to the lake {lake.root}: {error.strerror}; choose another folder with LAKE="
        ) from error
    with holder:
        try:
            fcntl.flock(holder, fcntl.LOCK_EX)  # ends with the process, however it ends
        except OSError as error:
            raise (no_locks(lock, error) or error) from error
        folder.mkdir()
        try:
            require_storage(folder)
            yield folder
        finally:
            _remove(folder, lock)


def require_lake(lake: Lake) -> None:
    """Refuse a lake that nothing could be published in, as `staging_folder` does: before work that would be lost."""
    with staging_folder(lake):
        pass


def _sweep(staging: Path) -> None:
    """Remove the folders whose job is no longer alive to hold their lock."""
    for lock in staging.glob("*.lock"):
        try:
            with lock.open() as probe:
                fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(lock.with_suffix(""), lock)
        except (BlockingIOError, FileNotFoundError):
            continue  # its job is alive, or has just ended


def _remove(folder: Path, lock: Path) -> None:
    """The lock last, and only where the folder is gone: a worker that outlives its driver may still write to it."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        lock.unlink(missing_ok=True)


def publish(
    lake: Lake,
    table: str,
    dataset: str,
    ds: str,
    staged: Path,
    *,
    rows: int,
    inputs: Mapping[str, str],
    code: str,
    spec_version: str | None = None,
    counts: Mapping[str, int] | None = None,
) -> Manifest:
    """Move a staged folder of data files into place as the partition `ds`, manifest included."""
    _drop_sidecars(staged)
    manifest = Manifest(
        table=table,
        dataset=dataset,
        ds=ds,
        rows=rows,
        fingerprint=content_fingerprint(staged),
        inputs=dict(sorted(inputs.items())),
        code_version=code,
        spec_version=spec_version,
        counts=dict(counts or {}),
    )
    (staged / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
    for path in (*staged.iterdir(), staged):
        make_durable(path)
    swap_into_place(staged, lake.partition(table, dataset, ds))
    return manifest


def swap_into_place(staged: Path, target: Path) -> None:
    """Make `target` name the staged folder, atomically; what it named before ends up in `staged`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        staged.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        exchange(staged, target)
    make_durable(target.parent)


def replace_files(staged: Sequence[Path], targets: Sequence[Path]) -> None:
    """Put staged files of this lake into their places, each in one step; last comes the one that vouches for the rest.

    That one's old version is removed first: a kill in between leaves no file that vouches for another's content.
    """
    targets[-1].unlink(missing_ok=True)
    for file, target in zip(staged, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a single file, or leave it as it was: nobody reads a part of it, and a power cut takes none of it back."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        staged.write_bytes(content.encode() if isinstance(content, str) else content)
        make_durable(staged)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def _is_data(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(("_", "."))


def _drop_sidecars(folder: Path) -> None:
    """Remove what Spark leaves beside its data files: _SUCCESS and checksum files."""
    for path in folder.iterdir():
        if path.name == "_SUCCESS" or path.name.endswith(".crc"):
            path.unlink()


def make_durable(path: Path) -> None:
    """Have the disk hold a file's content, or a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

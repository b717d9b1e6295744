"""Whether a file system can hold a lake: folders swapped in one step, folders made durable, locks that exclude.

Local Linux file systems can. Of those that several machines share some cannot (NFS, SMB, object stores behind FUSE):
a lake there would lose a partition in a kill, or have two builders of one day. So it is refused, before any work.
"""

import ctypes
import errno
import fcntl
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import UserError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# Mount options with which locks hold on one machine only: NFS, SMB, Lustre.
_LOCAL_LOCKS = {"nolock", "local_lock=all", "local_lock=posix", "local_lock=flock", "nobrl", "localflock"}
# What the kernel says where there is no such thing; anything else (a full disk, a lost server) is told as it is.
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
_passed: set[int] = set()  # devices


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system: its folder, its kind (ext4, nfs4, fuse.juicefs), its options."""

    folder: str
    kind: str
    options: frozenset[str]


def mount_of(path: Path, mountinfo: str) -> Mount:
    """The mount that a path lies on, by the text of /proc/self/mountinfo: the last of the innermost."""
    best = Mount("/", "unknown", frozenset())
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _, super_options) = left.split(), right.split(" ", 2)
        folder = fields[4].encode().decode("unicode_escape")  # a space is \040
        if path.is_relative_to(folder) and len(folder) >= len(best.folder):
            best = Mount(folder, kind, frozenset(f"{fields[5]},{super_options}".split(",")))
    return best


def refusal(path: Path, cannot: str) -> UserError:
    """The error for a lake on storage that is no good, with the name of its file system."""
    mount = mount_of(path.resolve(), Path("/proc/self/mountinfo").read_text())
    return UserError(
        f"the file system of {path} ({mount.kind}, mounted at {mount.folder}) {cannot}: "
        "put the lake on one that can (ext4, xfs, btrfs, tmpfs; for several machines see docs/deploy.md)"
    )


def exchange(one: Path, other: Path) -> None:
    """Swap what two paths name, atomically; a UserError where the file system cannot, else the OSError that it is."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            raise refusal(other, f"cannot swap two folders in one step ({os.strerror(code)})")
        raise OSError(code, os.strerror(code), str(other))


def no_locks(path: Path, error: OSError) -> UserError | None:
    """The refusal for a lock call that failed since the file system has no locks; None for any other failure."""
    return refusal(path, f"has no locks ({error.strerror})") if error.errno in _UNSUPPORTED else None


def require_storage(folder: Path) -> None:
    """Try in a folder of the lake what publishing and locking rest on; a UserError says what is missing.

    Once a process and file system: it takes a millisecond, but a job opens many folders. Nothing of it stays.
    """
    device = folder.stat().st_dev
    if device in _passed:
        return
    mount = mount_of(folder.resolve(), Path("/proc/self/mountinfo").read_text())
    if local := sorted(_LOCAL_LOCKS & mount.options):
        raise refusal(folder, f"is mounted with '{local[0]}', so that its locks hold on one machine only")
    trial = folder / "trial"
    trial.mkdir()
    try:
        _try_swap(trial)
        _try_locks(trial / "lock")
    finally:
        shutil.rmtree(trial)
    _passed.add(device)


def _try_swap(trial: Path) -> None:
    one, other = trial / "one", trial / "other"
    for place in (one, other):
        place.mkdir()
        (place / place.name).touch()
    exchange(one, other)
    if not (one / "other").exists():
        raise refusal(trial, "says that it has swapped two folders, and has not")
    handle = os.open(one, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        raise refusal(trial, f"cannot make a folder durable ({error.strerror})") from error
    finally:
        os.close(handle)


def _try_locks(file: Path) -> None:
    """A rival of the same process: its flock, and its lock of an open file description, must be refused."""
    with file.open("ab") as holder, file.open("ab") as rival:
        try:
            fcntl.lockf(holder, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise (no_locks(file, error) or error) from error
        want = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
        for take in (
            lambda: fcntl.fcntl(rival, fcntl.F_OFD_SETLK, want),
            lambda: fcntl.flock(rival, fcntl.LOCK_EX | fcntl.LOCK_NB),
        ):
            try:
                take()
            except (BlockingIOError, PermissionError):
                continue
            raise refusal(file, "gives one lock to two at once")

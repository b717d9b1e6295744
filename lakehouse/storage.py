"""Checks whether a file system is suitable for a lake: it must swap two folders atomically, flush folders, and lock.

Local Linux file systems are suitable. Several shared ones are not (NFS, SMB, object stores behind FUSE): a killed job
could lose a partition there, and two jobs could build the same day at the same time. A lake on such a file system is
refused before any work begins.
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
# With these mount options of NFS, SMB and Lustre, a lock excludes processes of the same machine only.
_LOCAL_LOCKS = {"nolock", "local_lock=all", "local_lock=posix", "local_lock=flock", "nobrl", "localflock"}
# The kernel's error numbers for a call that the file system does not support. Any other error (a full disk, a lost
# server) is raised unchanged.
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
_suitable_devices: set[int] = set()  # already checked by this process


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system: its folder, its kind (for example ext4, nfs4 or fuse.juicefs), its options."""

    folder: str
    kind: str
    options: frozenset[str]


def mount_of(path: Path, mountinfo: str) -> Mount:
    """The mount of an absolute path, from the text of /proc/self/mountinfo.

    It is the mount with the longest folder above the path; of several with the same folder, the last one.
    """
    mount = Mount("/", "unknown", frozenset())
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _, super_options) = left.split(), right.split(" ", 2)
        folder = fields[4].encode().decode("unicode_escape")  # a space is \040
        if path.is_relative_to(folder) and len(folder) >= len(mount.folder):
            mount = Mount(folder, kind, frozenset(f"{fields[5]},{super_options}".split(",")))
    return mount


def unsuitable_storage(path: Path, problem: str) -> UserError:
    """The error for a lake on an unsuitable file system. The message names the file system and the problem."""
    mount = mount_of(path.resolve(), Path("/proc/self/mountinfo").read_text())
    return UserError(
        f"the file system of {path} ({mount.kind}, mounted at {mount.folder}) {problem}: "
        "put the lake on one that can (ext4, xfs, btrfs, tmpfs; for several machines see docs/deploy.md)"
    )


def exchange(staged: Path, target: Path) -> None:
    """Swap the files or folders at two paths atomically.

    Raises UserError if the file system does not support it, and OSError for any other failure.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(staged), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            raise unsuitable_storage(target, f"cannot swap two folders in one step ({os.strerror(code)})")
        raise OSError(code, os.strerror(code), str(target))


def lock_error(path: Path, error: OSError) -> Exception:
    """The error to raise for a failed lock call: a UserError if the file system has no locks, else the same error."""
    if error.errno in _UNSUPPORTED:
        return unsuitable_storage(path, f"has no locks ({error.strerror})")
    return error


def require_storage(folder: Path) -> None:
    """Try the operations that publishing and locking need, in a folder of the lake.

    Raises UserError, which names the first operation that fails. Each process checks a file system once, because a
    job opens many folders. The check takes a millisecond and leaves no files.
    """
    device = folder.stat().st_dev
    if device in _suitable_devices:
        return
    mount = mount_of(folder.resolve(), Path("/proc/self/mountinfo").read_text())
    if local := sorted(_LOCAL_LOCKS & mount.options):
        raise unsuitable_storage(folder, f"is mounted with '{local[0]}', so that its locks hold on one machine only")
    trial = folder / "trial"
    trial.mkdir()
    try:
        _try_swap(trial)
        _try_locks(trial / "lock")
    finally:
        shutil.rmtree(trial)
    _suitable_devices.add(device)


def _try_swap(trial: Path) -> None:
    staged, target = trial / "staged", trial / "target"
    for folder in (staged, target):
        folder.mkdir()
        (folder / folder.name).touch()
    exchange(staged, target)
    if not (staged / "target").exists():
        raise unsuitable_storage(trial, "reports a swap of two folders that it has not done")
    handle = os.open(staged, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        raise unsuitable_storage(trial, f"cannot make a folder durable ({error.strerror})") from error
    finally:
        os.close(handle)


def _try_locks(file: Path) -> None:
    """Lock a file, then try to lock it again through a second handle: both kinds of lock must be refused.

    The second attempt uses flock and a lock of an open file description, which also exclude the same process.
    """
    with file.open("ab") as holder, file.open("ab") as rival:
        try:
            fcntl.lockf(holder, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise lock_error(file, error) from error
        lock_request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
        for lock_again in (
            lambda: fcntl.fcntl(rival, fcntl.F_OFD_SETLK, lock_request),
            lambda: fcntl.flock(rival, fcntl.LOCK_EX | fcntl.LOCK_NB),
        ):
            try:
                lock_again()
            except (BlockingIOError, PermissionError):
                continue
            raise unsuitable_storage(file, "gives the same lock to two holders")

"""Storage that cannot hold a lake is refused before any work, by a kernel that says no as that storage does."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.lake import Lake
from lakehouse.staging import staging_folder
from lakehouse.storage import Mount, exchange, mount_of
from schemas.errors import UserError

# The calls of the x86-64 kernel, the argument that is looked at, its value, and what NFS or SMB say to it.
SWAP = (316, 4, 2, "EINVAL")  # renameat2 with RENAME_EXCHANGE
POSIX_LOCK = (72, 1, 6, "ENOLCK")  # fcntl with F_SETLK
FLOCK = (73, 1, 6, "EOPNOTSUPP")  # flock with LOCK_EX | LOCK_NB
BLOCKING_FLOCK = (73, 1, 2, "EOPNOTSUPP")

# Has the kernel refuse a call to this process (seccomp), then opens a lake.
OPEN_A_LAKE = """
import ctypes, errno, struct, sys
from pathlib import Path
from schemas.errors import exit_with_one_line
from lakehouse.locks import locked
from lakehouse.lake import Lake
from lakehouse.staging import staging_folder

root, way, call, argument, value, error = sys.argv[1:]
def step(code, operand, yes=0, no=0):
    return struct.pack("HBBI", code, yes, no, operand)
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06
program = b"".join([
    step(LOAD, 0), step(EQUALS, int(call), no=3),
    step(LOAD, 16 + 8 * int(argument)), step(EQUALS, int(value), no=1),
    step(RETURN, 0x00050000 | getattr(errno, error)), step(RETURN, 0x7FFF0000),
])
steps = ctypes.create_string_buffer(program)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
filter = struct.pack("H6xP", len(program) // 8, ctypes.addressof(steps))
assert libc.prctl(22, 2, filter) == 0, ctypes.get_errno()

def main():
    lake = Lake(Path(root))
    with locked(lake, ["journeys"], "criteo", ["2017-01-01"]) if way == "lock" else staging_folder(lake):
        print("works")
exit_with_one_line(main)
"""


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="knows the calls of Linux on x86-64 only"
)
@pytest.mark.parametrize(
    ("way", "call", "says"),
    [
        ("stage", SWAP, "cannot swap two folders in one step (Invalid argument)"),
        ("stage", POSIX_LOCK, "has no locks (No locks available)"),
        ("stage", FLOCK, "has no locks (Operation not supported)"),
        ("stage", BLOCKING_FLOCK, "has no locks (Operation not supported)"),
        ("lock", POSIX_LOCK, "has no locks (No locks available)"),
        ("lock", SWAP, "cannot swap two folders in one step (Invalid argument)"),  # a builder's work would be lost
    ],
)
def test_a_lake_is_refused_in_one_line_that_names_its_file_system(tmp_path, way, call, says):
    command = [sys.executable, "-c", OPEN_A_LAKE, str(tmp_path / "lake"), way, *map(str, call)]
    done = subprocess.run(command, text=True, capture_output=True, cwd=Path(__file__).parents[2], check=False)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    mount = mount_of(tmp_path, Path("/proc/self/mountinfo").read_text())
    assert line.startswith("error: the file system of ")
    assert f"({mount.kind}, mounted at {mount.folder}) {says}: put the lake on one that can" in line
    assert done.returncode == 2
    assert not [p for p in (tmp_path / "lake").glob(".staging/*") if p.suffix != ".lock"]


def test_a_swap_that_fails_on_good_storage_is_told_as_it_is(tmp_path):
    (tmp_path / "one").mkdir()
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/other'"):
        exchange(tmp_path / "one", tmp_path / "other")


def test_a_good_file_system_is_tried_once_and_nothing_of_it_stays(tmp_path):
    lake = Lake(tmp_path / "lake")
    for _ in range(2):
        with staging_folder(lake) as folder:
            assert list(folder.iterdir()) == []
    assert list(lake.staging.iterdir()) == []


MOUNTINFO = r"""
21 1 254:0 / / rw,relatime - ext4 /dev/root rw
30 21 0:30 / /data rw - nfs4 server:/data rw,vers=4.2,hard,local_lock=none
31 30 0:31 / /data/a\040lake rw - nfs server:/lake rw,vers=3,nolock,local_lock=all
32 30 0:32 / /data/a\040lake rw shared:7 - fuse.juicefs JuiceFS:lake rw,user_id=0
""".strip()


@pytest.mark.parametrize(
    ("path", "folder", "kind", "option"),
    [
        ("/data/a lake/x", "/data/a lake", "fuse.juicefs", "user_id=0"),  # the last mount hides the one below
        ("/data/a lakehouse", "/data", "nfs4", "hard"),
        ("/home", "/", "ext4", "relatime"),
    ],
)
def test_the_innermost_mount_of_a_path(path, folder, kind, option):
    found = mount_of(Path(path), MOUNTINFO)
    assert (found.folder, found.kind) == (folder, kind)
    assert option in found.options


def test_locks_that_hold_on_one_machine_only_are_refused(tmp_path, monkeypatch):
    local = Mount("/data", "nfs", frozenset({"rw", "nolock"}))
    monkeypatch.setattr("lakehouse.storage.mount_of", lambda *_: local)
    monkeypatch.setattr("lakehouse.storage._passed", set())
    said = r"nfs, mounted at /data.*'nolock'.*one machine only"
    with pytest.raises(UserError, match=said), staging_folder(Lake(tmp_path)):
        pytest.fail("a lake whose locks exclude nobody was opened")
    assert list((tmp_path / ".staging").iterdir()) == []

"""A lake on an unsuitable file system is refused before any work. The tests make the kernel refuse single calls."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from lakehouse.storage import Mount, exchange, mount_of

from lakehouse.lake import Lake
from lakehouse.scratch import work_folder
from schemas.errors import UserError

# Calls of the x86-64 kernel: number, position and value of an argument, and the error that NFS or SMB give for it.
SWAP = (316, 4, 2, "EINVAL")  # renameat2 with RENAME_EXCHANGE
POSIX_LOCK = (72, 1, 6, "ENOLCK")  # fcntl with F_SETLK
FLOCK = (73, 1, 6, "EOPNOTSUPP")  # flock with LOCK_EX | LOCK_NB
BLOCKING_FLOCK = (73, 1, 2, "EOPNOTSUPP")


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="knows the calls of Linux on x86-64 only"
)
@pytest.mark.parametrize(
    ("way", "call", "problem"),
    [
        ("stage", SWAP, "cannot swap two folders in one step (Invalid argument)"),
        ("stage", POSIX_LOCK, "has no locks (No locks available)"),
        ("stage", FLOCK, "has no locks (Operation not supported)"),
        ("stage", BLOCKING_FLOCK, "has no locks (Operation not supported)"),
        ("lock", POSIX_LOCK, "has no locks (No locks available)"),
        (
            "lock",
            SWAP,
            "cannot swap two folders in one step (Invalid argument)",
        ),  # or a job would fail at its end
    ],
)
def test_a_lake_is_refused_in_one_line_that_names_its_file_system(tmp_path, way, call, problem):
    command = [sys.executable, "-m", "tests.lakehouse.open_lake_without_call", str(tmp_path / "lake"), way]
    command += map(str, call)
    done = subprocess.run(command, text=True, capture_output=True, cwd=Path(__file__).parents[2], check=False)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    mount = mount_of(tmp_path, Path("/proc/self/mountinfo").read_text())
    assert line.startswith("error: the file system of ")
    assert f"({mount.kind}, mounted at {mount.folder}) {problem}: put the lake on one that can" in line
    assert done.returncode == 2
    assert not [p for p in (tmp_path / "lake").glob(".staging/*") if p.suffix != ".lock"]


def test_any_other_failure_of_a_swap_is_raised_unchanged(tmp_path):
    (tmp_path / "staged").mkdir()
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/target'"):
        exchange(tmp_path / "staged", tmp_path / "target")


def test_the_check_of_a_file_system_leaves_no_files(tmp_path):
    lake = Lake(tmp_path / "lake")
    for _ in range(2):
        with work_folder() as folder:
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
    mount = mount_of(Path(path), MOUNTINFO)
    assert (mount.folder, mount.kind) == (folder, kind)
    assert option in mount.options


def test_locks_that_exclude_only_their_own_machine_are_refused(tmp_path, monkeypatch):
    local = Mount("/data", "nfs", frozenset({"rw", "nolock"}))
    monkeypatch.setattr("lakehouse.storage.mount_of", lambda *_: local)
    monkeypatch.setattr("lakehouse.storage._suitable_devices", set())
    message = r"nfs, mounted at /data.*'nolock'.*one machine only"
    with pytest.raises(UserError, match=message), staging_folder(Lake(tmp_path)):
        pytest.fail("a lake without working locks was opened")
    assert list((tmp_path / ".staging").iterdir()) == []

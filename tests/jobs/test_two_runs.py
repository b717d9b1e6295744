"""Two triggers of one day at once, and a disk that is full: real processes on one lake."""

import fcntl
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from shop import sent, write_file

from lakehouse.lake import Lake
from lakehouse.manifest import content_fingerprint, read_manifest
from schemas.days import UNDATED
from schemas.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.spark
DAYS = ["2024-05-01", "2024-05-02"]
FAST_JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dspark.sql.codegen.wholeStage=false"


@pytest.fixture
def raw(tmp_path) -> Path:
    for day in DAYS:
        write_file(tmp_path / "raw", day, [sent("ann", day, hour) for hour in (8, 9)])
    return tmp_path / "raw"


def start(lake: Path, raw: Path, **environment: str) -> subprocess.Popen:
    """A run of both days; what it says on either stream is its output."""
    arguments = ("jobs.build_exposures", "--dataset", "shop", "--lake", str(lake), "--raw", str(raw))
    env = os.environ | {"PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SUBMIT_OPTS": FAST_JAVA}
    script = str(ROOT / "tests/jobs/helpers/shop_job.py")
    return subprocess.Popen([sys.executable, script, *arguments], cwd=ROOT, text=True,
                            env=env | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


def whole(lake: Lake) -> bool:
    """Every partition has a manifest that is true of its files, and nothing is left in staging."""
    partitions = list(lake.root.glob("*/dataset=*/ds=*"))
    stated = [read_manifest(path) for path in partitions]
    true = all(m and m.fingerprint == content_fingerprint(p) for m, p in zip(stated, partitions, strict=True))
    return true and not (lake.staging.is_dir() and list(lake.staging.iterdir()))


def is_locked(file: Path) -> bool:
    """Whether a process holds a lock on any byte of the file (struct flock of fcntl(2)); to ask takes none."""
    if not file.exists():
        return False
    with file.open("rb") as lock:
        whole_file = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return struct.unpack("hhqqi", fcntl.fcntl(lock, fcntl.F_GETLK, whole_file))[0] != fcntl.F_UNLCK


@contextmanager
def halted_with(lock: Path, run: subprocess.Popen) -> Iterator[None]:
    """Halt a run when it has taken the lock, and let it go on afterwards: meanwhile it keeps the lock."""
    while not is_locked(lock):
        assert run.poll() is None, run.communicate()[0][-2000:]
        time.sleep(0.01)
    run.send_signal(signal.SIGSTOP)
    try:
        assert is_locked(lock)
        yield
    finally:
        run.send_signal(signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize("patience", ["300", "0"], ids=["the other waits", "the other stops"])
def test_of_two_runs_at_once_one_publishes(raw, tmp_path, patience):
    lake = Lake(tmp_path / "lake")
    first = start(lake.root, raw)
    with halted_with(lake.locks / "exposures.shop", first):
        second = start(lake.root, raw, MTORL_LOCK_WAIT_S=patience)
        told = next((line for line in second.stdout if "another run is building" in line), "")
    built, rest = first.communicate(timeout=300)[0], second.stdout.read()
    assert first.returncode == 0, built[-2000:]
    assert "4 rows in = 4 exposures" in built
    if patience == "0":
        assert told.startswith("error: another run is building exposures of shop, ")
        assert second.wait() == EXIT_TRY_AGAIN
    else:
        assert told.startswith("waiting: another run is building exposures of shop, ")
        assert second.wait() == 0, rest[-2000:]
        assert "2 of 2 days are fresh" in rest
    assert "rows in" not in rest
    assert lake.days("exposures", "shop") == DAYS
    assert whole(lake)


@pytest.mark.slow
def test_a_full_disk_is_one_clear_line_and_leaves_whole_partitions(raw, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("only root can make a small disk to fill")
    try:
        lake = Lake(small / "lake")
        first = start(lake.root, raw)
        said, _ = first.communicate(timeout=300)
        assert first.returncode == 0, said[-2000:]
        before = {path: read_manifest(path) for path in lake.root.glob("*/dataset=*/ds=*")}
        assert UNDATED in {path.name.removeprefix("ds=") for path in before}
        write_file(raw, DAYS[1], [sent(f"user-{k}", DAYS[1], k % 24) for k in range(20_000)])
        second = start(lake.root, raw)
        said, _ = second.communicate(timeout=300)
        assert second.returncode == EXIT_USER_ERROR, said[-2000:]
        (line,) = [line for line in said.splitlines() if line.startswith("error:")]
        assert "the disk is full" in line or "No space left" in line
        # Refused rows come first and are small: their partitions may be new, each of them whole.
        after = {path: read_manifest(path) for path in lake.root.glob("*/dataset=*/ds=*")}
        assert before.keys() <= after.keys()
        assert all(path.parent.parent.name == "quarantine" for path in after if after[path] != before.get(path))
        assert whole(lake)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)

"""Runs of the same days in parallel, and a full disk: real processes on one lake."""

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
from fast_java import SUBMIT_OPTIONS
from in_process import Jobs
from shop import SHOP, sent, write_file

import schemas.dataset
from lakehouse.lake import Lake
from lakehouse.manifest import content_fingerprint, read_manifest
from schemas.days import UNDATED
from schemas.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.spark
DAYS = ["2024-05-01", "2024-05-02"]


@pytest.fixture
def raw(tmp_path) -> Path:
    for day in DAYS:
        write_file(tmp_path / "raw", day, [sent("ann", day, hour) for hour in (8, 9)])
    return tmp_path / "raw"


def start(lake: Path, raw: Path, **environment: str) -> subprocess.Popen:
    """A run of both days. Its output has both streams."""
    arguments = ("jobs.build_exposures", "--dataset", "shop", "--lake", str(lake), "--raw", str(raw))
    env = os.environ | {"PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SUBMIT_OPTS": SUBMIT_OPTIONS}
    script = str(ROOT / "tests/jobs/helpers/shop_job.py")
    return subprocess.Popen([sys.executable, script, *arguments], cwd=ROOT, text=True,
                            env=env | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


def is_whole(lake: Lake) -> bool:
    """Whether every partition's manifest matches its files, and nothing is left in staging."""
    partitions = list(lake.root.glob("*/dataset=*/ds=*"))
    manifests = [read_manifest(path) for path in partitions]
    match = all(m and m.fingerprint == content_fingerprint(p) for m, p in zip(manifests, partitions, strict=True))
    return match and not (lake.staging.is_dir() and list(lake.staging.iterdir()))


def is_locked(file: Path) -> bool:
    """Whether a process has locked any byte of the file (struct flock of fcntl(2)). The test takes no lock."""
    if not file.exists():
        return False
    with file.open("rb") as lock:
        whole_file = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return struct.unpack("hhqqi", fcntl.fcntl(lock, fcntl.F_GETLK, whole_file))[0] != fcntl.F_UNLCK


@contextmanager
def halted_with(lock: Path, run: subprocess.Popen) -> Iterator[None]:
    """Halts a run after it has taken the lock, which it keeps, and continues it afterwards."""
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
def test_only_one_of_several_runs_publishes(raw, tmp_path):
    """While the first run is building, a run that may wait waits for it, and a run that may not wait stops."""
    lake = Lake(tmp_path / "lake")
    first = start(lake.root, raw)
    with halted_with(lake.locks / "exposures.shop", first):
        waiting, stopping = (start(lake.root, raw, MTORL_LOCK_WAIT_S=patience) for patience in ("300", "0"))
        waiting_line, stopping_line = (
            next((line for line in run.stdout if "another run is building" in line), "") for run in (waiting, stopping)
        )
    first_output = first.communicate(timeout=300)[0]
    waiting_output, stopping_output = waiting.stdout.read(), stopping.stdout.read()
    assert first.returncode == 0, first_output[-2000:]
    assert "4 rows in = 4 exposures" in first_output
    assert waiting_line.startswith("waiting: another run is building exposures of shop, ")
    assert waiting.wait() == 0, waiting_output[-2000:]
    assert "2 of 2 days are fresh" in waiting_output
    assert stopping_line.startswith("error: another run is building exposures of shop, ")
    assert stopping.wait() == EXIT_TRY_AGAIN
    assert "rows in" not in waiting_output + stopping_output
    assert lake.days("exposures", "shop") == DAYS
    assert is_whole(lake)


@pytest.mark.slow
def test_a_full_disk_is_one_clear_line_and_leaves_whole_partitions(spark, raw, tmp_path, monkeypatch):
    small_disk = tmp_path / "small"
    small_disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small_disk)], capture_output=True)
    if mount.returncode != 0:
        pytest.skip("only root can make a small disk to fill")
    try:
        lake = Lake(small_disk / "lake")
        monkeypatch.setattr(schemas.dataset, "_registry", lambda: {"shop": SHOP})
        Jobs(spark, lake, "shop", monkeypatch).ok("build_exposures", "--raw", str(raw))
        manifests_before = {path: read_manifest(path) for path in lake.root.glob("*/dataset=*/ds=*")}
        assert UNDATED in {path.name.removeprefix("ds=") for path in manifests_before}
        write_file(raw, DAYS[1], [sent(f"user-{k}", DAYS[1], k % 24) for k in range(20_000)])
        run = start(lake.root, raw)
        output, _ = run.communicate(timeout=300)
        assert run.returncode == EXIT_USER_ERROR, output[-2000:]
        (line,) = [line for line in output.splitlines() if line.startswith("error:")]
        assert "the disk is full" in line or "No space left" in line
        # The quarantine is published first and is small: its partitions may be new, each of them whole.
        manifests_after = {path: read_manifest(path) for path in lake.root.glob("*/dataset=*/ds=*")}
        assert manifests_before.keys() <= manifests_after.keys()
        assert all(
            path.parent.parent.name == "quarantine"
            for path in manifests_after
            if manifests_after[path] != manifests_before.get(path)
        )
        assert is_whole(lake)
    finally:
        subprocess.run(["umount", "-l", str(small_disk)], check=True)

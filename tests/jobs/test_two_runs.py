"""Runs of the same days in parallel, and a full disk: real processes on one lake."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fast_java import JAVA_OPTIONS
from in_process import Jobs
from lakes import contents, partitions
from shop import SHOP, sent, write_file

import schemas.dataset
from lakehouse.lake import Lake
from schemas.days import UNDATED
from schemas.errors import EXIT_USER_ERROR

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
    env = os.environ | {"PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SUBMIT_OPTS": JAVA_OPTIONS}
    script = str(ROOT / "tests/jobs/helpers/shop_job.py")
    return subprocess.Popen([sys.executable, script, *arguments], cwd=ROOT, text=True,
                            env=env | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


@pytest.mark.slow
def test_runs_of_the_same_days_at_the_same_time_publish_each_day_whole(raw, tmp_path):
    lake, single = Lake(tmp_path / "lake"), Lake(tmp_path / "single")
    runs = [start(lake.root, raw), start(lake.root, raw)]
    for run in runs:
        output, _ = run.communicate(timeout=300)
        assert run.returncode == 0, output[-2000:]
    run = start(single.root, raw)
    assert "4 rows in = 4 exposures" in run.communicate(timeout=300)[0]
    assert contents(lake) == contents(single)
    assert [p.manifest for p in partitions(lake)] == [p.manifest for p in partitions(single)]


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
        manifests_before = {partition: partition.manifest for partition in partitions(lake)}
        assert UNDATED in {partition.day for partition in manifests_before}
        write_file(raw, DAYS[1], [sent(f"user-{k}", DAYS[1], k % 24) for k in range(20_000)])
        run = start(lake.root, raw)
        output, _ = run.communicate(timeout=300)
        assert run.returncode == EXIT_USER_ERROR, output[-2000:]
        (line,) = [line for line in output.splitlines() if line.startswith("error:")]
        assert "the disk is full" in line or "No space left" in line
        # The quarantine is published first and is small: its partitions may be new, each of them whole.
        manifests_after = {partition: partition.manifest for partition in partitions(lake)}
        assert manifests_before.keys() <= manifests_after.keys()
        assert all(
            partition.table == "quarantine"
            for partition, manifest in manifests_after.items()
            if manifest != manifests_before.get(partition)
        )
        contents(lake)
    finally:
        subprocess.run(["umount", "-l", str(small_disk)], check=True)

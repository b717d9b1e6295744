"""Two triggers of one day at once, and a disk that is full: real processes on one lake."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from shop import sent, write_file

from schemas.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR
from schemas.paths import UNDATED, Lake
from schemas.publishing import content_fingerprint, read_manifest

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
    arguments = ("jobs.build_exposures", "--dataset", "shop", "--lake", str(lake), "--raw", str(raw))
    env = os.environ | {"PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SUBMIT_OPTS": FAST_JAVA}
    return subprocess.Popen([sys.executable, str(ROOT / "tests/jobs/shop_job.py"), *arguments], cwd=ROOT, text=True,
                            env=env | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def whole(lake: Lake) -> bool:
    """Every partition has a manifest that is true of its files, and nothing is left in staging."""
    partitions = list(lake.root.glob("*/dataset=*/ds=*"))
    stated = [read_manifest(path) for path in partitions]
    true = all(m and m.fingerprint == content_fingerprint(p) for m, p in zip(stated, partitions, strict=True))
    return true and not (lake.staging.is_dir() and list(lake.staging.iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize("patience", ["300", "0"], ids=["the other waits", "the other stops"])
def test_of_two_runs_at_once_one_publishes(raw, tmp_path, patience):
    lake = Lake(tmp_path / "lake")
    runs = [start(lake.root, raw, MTORL_LOCK_WAIT_S=patience) for _ in range(2)]
    ends = [(*run.communicate(timeout=300), run.returncode) for run in runs]
    built = [out for out, _, _ in ends if "4 rows in = 4 kept" in out]
    others = [end for end in ends if end[0] not in built]
    assert len(built) == 1
    (out, err, status) = others[0]
    if status == 0:  # it came late enough, or waited
        assert "2 of 2 days are fresh and left alone" in out
    else:
        assert patience == "0"
        assert status == EXIT_TRY_AGAIN
        (line,) = [line for line in err.splitlines() if line.startswith("error:")]
        assert "another run is building " in line
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
        assert first.wait(300) == 0, first.stderr.read()
        before = {path: read_manifest(path) for path in lake.root.glob("*/dataset=*/ds=*")}
        assert UNDATED in {path.name.removeprefix("ds=") for path in before}
        write_file(raw, DAYS[1], [sent(f"user-{k}", DAYS[1], k % 24) for k in range(20_000)])
        second = start(lake.root, raw)
        _, err = second.communicate(timeout=300)
        assert second.returncode == EXIT_USER_ERROR, err[-2000:]
        (line,) = [line for line in err.splitlines() if line.startswith("error:")]
        assert "the disk is full" in line or "No space left" in line
        # Refused rows come first and are small: their partitions may be new, each of them whole.
        after = {path: read_manifest(path) for path in lake.root.glob("*/dataset=*/ds=*")}
        assert before.keys() <= after.keys()
        assert all(path.parent.parent.name == "quarantine" for path in after if after[path] != before.get(path))
        assert whole(lake)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)

"""Bad input gives one clear line, a non-zero exit, and nothing half-written."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
from raw_logs import criteo_row, kuairand_row, write_criteo, write_kuairand

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.spark


def run_job(job: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "MTORL_DEBUG"} | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, ROOT / "jobs" / f"{job}.py", *arguments], env=env, text=True,
                          capture_output=True, timeout=300, check=False)  # fmt: skip


def refused(dataset: str, raw: Path, lake: Path, *more: str, **environment: str) -> str:
    """The one line that build_exposures says; the lake holds nothing afterwards."""
    result = run_job(
        "build_exposures", "--dataset", dataset, "--raw", str(raw), "--lake", str(lake), *more, **environment
    )
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert result.returncode == 2, result.stderr
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert not [p for p in lake.rglob("*") if p.is_file()]
    return errors[0]


def test_missing_folder(tmp_path):
    assert "no such folder" in refused("kuairand", tmp_path / "nowhere", tmp_path / "lake")


def test_empty_folder(tmp_path):
    (tmp_path / "raw").mkdir()
    assert "expected log_random_*.csv" in refused("kuairand", tmp_path / "raw", tmp_path / "lake")


def test_unknown_dataset(tmp_path):
    line = refused("kuairant", write_kuairand(tmp_path / "raw", []), tmp_path / "lake")
    assert "unknown dataset 'kuairant': choose one of criteo, kuairand" in line


def test_renamed_column(tmp_path):
    raw = write_kuairand(tmp_path / "raw", [kuairand_row()])
    log = raw / "log_random_4_22_to_5_08_pure.csv"
    log.write_text(log.read_text().replace("is_click", "clicked", 1))
    line = refused("kuairand", raw, tmp_path / "lake")
    assert "log_random_4_22_to_5_08_pure.csv: column is_click is missing (found instead: clicked)" in line


def test_a_plain_file_named_gz(tmp_path):
    raw = write_criteo(tmp_path / "raw", [criteo_row()])
    file = raw / "criteo_attribution_dataset.tsv.gz"
    file.write_bytes(gzip.decompress(file.read_bytes()))
    assert "is not gzip despite its name" in refused("criteo", raw, tmp_path / "lake")


def test_a_gz_cut_off_in_the_middle(tmp_path):
    raw = write_criteo(tmp_path / "raw", [criteo_row(uid=k, timestamp=k, cost=k / 7) for k in range(20_000)])
    file = raw / "criteo_attribution_dataset.tsv.gz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    line = refused("criteo", raw, tmp_path / "lake")
    assert "criteo_attribution_dataset.tsv.gz is cut off or damaged" in line


def test_a_day_outside_the_log(tmp_path):
    raw = write_kuairand(tmp_path / "raw", [kuairand_row()])
    line = refused("kuairand", raw, tmp_path / "lake", "--from", "2023-01-01", "--to", "2023-01-01")
    assert "2023-01-01 lies outside the log, which has the days 2022-04-22 to 2022-04-22" in line


def test_a_day_that_is_none(tmp_path):
    raw = write_kuairand(tmp_path / "raw", [kuairand_row()])
    assert "'../../etc' is not a day" in refused("kuairand", raw, tmp_path / "lake", "--from", "../../etc")


def test_no_java(tmp_path):
    raw = write_kuairand(tmp_path / "raw", [kuairand_row()])
    line = refused("kuairand", raw, tmp_path / "lake", JAVA_HOME=str(tmp_path / "no-java"), PATH="/nowhere")
    assert "is Java 17 or 21 installed" in line


def test_a_lake_that_cannot_be_written(tmp_path):
    raw = write_kuairand(tmp_path / "raw", [kuairand_row()])
    (tmp_path / "lake").write_text("a file where the lake should be")
    result = run_job("build_exposures", "--dataset", "kuairand", "--raw", str(raw), "--lake", str(tmp_path / "lake"))
    assert result.returncode == 2
    assert "cannot write to the lake" in result.stderr
    assert "Traceback" not in result.stderr


def test_journeys_without_exposures(tmp_path):
    result = run_job("build_journeys", "--dataset", "kuairand", "--lake", str(tmp_path))
    assert result.returncode == 2
    assert "no exposures for kuairand" in result.stderr

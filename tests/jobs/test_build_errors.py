"""Bad input gives one clear line, a non-zero exit, and nothing half-written."""

import gzip
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from audit_samples import DAY, sample, write_partition
from raw_logs import criteo_row, kuairand_row, write_criteo, write_kuairand

from jobs import build_sequences
from jobs.history.resume import newest_fresh_journeys, read_exposures
from jobs.quality.audit_results import HOLDS, Audit, Outcome, store_audit
from lakehouse.lake import Lake
from lakehouse.storage import Mount
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.tables import JOURNEYS

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.spark


def run_job(job: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "MTORL_DEBUG"} | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, ROOT / "jobs" / f"{job}.py", *arguments], env=env, text=True,
                          capture_output=True, timeout=300, check=False)  # fmt: skip


def refused(dataset: str, raw: Path, lake: Path, *more: str, **environment: str) -> str:
    """The one line that build_exposures says; the lake holds no table afterwards."""
    result = run_job(
        "build_exposures", "--dataset", dataset, "--raw", str(raw), "--lake", str(lake), *more, **environment
    )
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert result.returncode == 2, result.stderr
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    notes = (".locks", "raw_index")  # who was at it, and what the log holds
    assert not [p for p in lake.rglob("*") if p.is_file() and p.relative_to(lake).parts[0] not in notes]
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


@pytest.fixture
def published(tmp_path) -> Lake:
    """A lake with exposures, journeys and a feature spec of one day."""
    lake, criteo = Lake(tmp_path), get_dataset("criteo")
    for name in ("exposures", "journeys", "feature_spec"):
        table, rows = sample(name, criteo)
        write_partition(lake, table, criteo, rows, inputs=lake[JOURNEYS, "criteo", DAY].current_inputs())
    return lake


@pytest.mark.parametrize("table", ["exposures", "journeys"])
def test_what_failed_its_audit_is_no_input(published, table):
    def audited(status: str) -> None:
        outcome = Outcome("expect_all_well", "rows", "All is well.", "or else", "critical", status)
        content = published[table, "criteo", DAY].manifest
        store_audit(published, Audit(table, "criteo", DAY, content.rows, content.fingerprint, (), (outcome,)))

    class Reading(Exception):
        """Stands for Spark, which starts to read here."""

    class Session:
        def __getattr__(self, name):
            raise Reading

    def read() -> None:
        if table == "exposures":
            read_exposures(Session(), published, get_dataset("criteo"), [DAY])
        else:
            newest_fresh_journeys(Session(), published, get_dataset("criteo"), "2017-01-03")

    audited("failed")
    with pytest.raises(UserError, match=f"^{table} for criteo on {DAY} failed its audit: .*; repair the day"):
        read()
    audited(HOLDS)
    with pytest.raises(Reading):
        read()


def test_windows_are_cut_with_the_spec_of_the_day_that_is_asked_for(published, monkeypatch):
    asked = ["build_sequences", "--dataset", "criteo", "--lake", str(published.root), "--spec-day", "2017-01-01"]
    monkeypatch.setattr(sys, "argv", asked)
    with pytest.raises(UserError, match="no feature_spec for criteo on 2017-01-01"):  # though there is a newer one
        build_sequences.main()


@pytest.mark.parametrize("job", ["build_exposures", "build_journeys", "build_feature_spec", "build_sequences"])
def test_storage_that_cannot_hold_a_lake_is_refused_before_spark_starts(published, tmp_path, monkeypatch, job):
    raw = ("--raw", str(write_criteo(tmp_path / "raw", [criteo_row()]))) if job == "build_exposures" else ()

    def session(*_):
        pytest.fail("Spark was started for a lake that nothing can be published in")

    module = importlib.import_module(f"jobs.{job}")
    monkeypatch.setattr(module, "spark_session", session)
    monkeypatch.setattr("lakehouse.storage.mount_of", lambda *_: Mount("/data", "nfs", frozenset({"nolock"})))
    monkeypatch.setattr("lakehouse.storage._suitable_devices", set())
    monkeypatch.setattr(sys, "argv", [job, "--dataset", "criteo", "--lake", str(published.root), "--this-code", *raw])
    with pytest.raises(UserError, match=r"nfs, mounted at /data.*'nolock'"):
        module.main()


@pytest.mark.parametrize("odd", ["[2022]", "{a}", "*", "what?", "back\\slash"])
def test_a_path_that_spark_would_read_as_a_pattern(tmp_path, odd):
    raw = write_kuairand(tmp_path / "raw", [kuairand_row()])
    assert "would be read as a pattern" in refused("kuairand", raw, tmp_path / odd)
    assert "would be read as a pattern" in refused("kuairand", raw.rename(tmp_path / odd), tmp_path / "lake")


def test_a_raw_file_whose_name_is_a_pattern(tmp_path):
    raw = write_kuairand(tmp_path / "raw", [kuairand_row()])
    (raw / "log_random_4_22_to_5_08_pure.csv").rename(raw / "log_random_[1].csv")
    line = refused("kuairand", raw, tmp_path / "lake")
    assert "log_random_[1].csv would be read as a pattern because of the [ in it" in line


def test_odd_cells_cost_their_own_rows_and_no_day_more(tmp_path):
    """With Spark as it runs in earnest, code generation included."""
    day_ms = 86_400_000
    monday = 1650597047647 + 3 * day_ms
    odd = [
        {"time_ms": 0}, {"time_ms": "9" * 18}, {"date": 20221399}, {"is_rand": 10**12},
        {"time_ms": monday + 300 * day_ms, "date": 20230219, "is_click": 2},
    ]  # fmt: skip
    log = [kuairand_row(), kuairand_row(time_ms=monday, date=20220425), *(kuairand_row(**cells) for cells in odd)]
    raw, lake = write_kuairand(tmp_path / "raw", log), tmp_path / "lake"
    flags = ("--dataset", "kuairand", "--raw", str(raw))
    assert run_job("log_days", *flags).stdout == "2022-04-22 2022-04-25\n"
    found = run_job("build_exposures", *flags, "--lake", str(lake))
    assert "2022-04-22..2022-04-25: 7 rows in = 2 kept + 0 duplicates + 5 quarantined" in found.stdout, found.stderr
    days = [f"2022-04-{day}" for day in (22, 23, 24, 25)]
    assert partitions(lake, "exposures") == days
    assert partitions(lake, "quarantine") == [*days, "undated"]
    # Only rows whose own time is good, and inside the log, are counted to a day.
    assert refused_rows(lake, "2022-04-22") == ["date is not a day", "is_rand is neither 0 nor 1"]
    assert len(refused_rows(lake, "undated")) == 3
    manifest = json.loads((lake / "quarantine/dataset=kuairand/ds=undated/_manifest.json").read_text())
    assert manifest["counts"] == {"rows_in": 7}

    # A day on its own knows the whole log's undated rows, and no other day's.
    lake = tmp_path / "other"
    again = run_job("build_exposures", *flags, "--lake", str(lake), "--from", "2022-04-25", "--to", "2022-04-25")
    assert "2022-04-25..2022-04-25: 4 rows in = 1 kept + 0 duplicates + 3 quarantined" in again.stdout, again.stderr
    assert json.loads((lake / "quarantine/dataset=kuairand/ds=undated/_manifest.json").read_text()) == manifest


def partitions(lake: Path, table: str) -> list[str]:
    return sorted(path.name.removeprefix("ds=") for path in (lake / table / "dataset=kuairand").iterdir())


def refused_rows(lake: Path, day: str) -> list[str]:
    return sorted(pd.read_parquet(lake / "quarantine" / "dataset=kuairand" / f"ds={day}").reason)

"""Bad input gives one clear line, a non-zero exit, and nothing half-written."""

import errno
import gzip
import importlib
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from audit_samples import DAY, sample, write_partition
from in_process import Jobs
from raw_logs import criteo_row, kuairand_row, write_criteo, write_kuairand

from jobs import log_days
from jobs.history.resume import EarlierHistory, earlier_history
from jobs.quality.audit_results import HOLDS, Audit, Outcome, store_audit
from jobs.raw.files import find_raw_files
from lakehouse.lake import Lake
from schemas.dataset import get_dataset
from schemas.days import UNDATED
from schemas.errors import EXIT_NOT_YET, EXIT_USER_ERROR, UserError, exit_with_one_line
from schemas.tables import JOURNEYS

ROOT = Path(__file__).resolve().parent.parent.parent


def run_process(job: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "MTORL_DEBUG"} | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, ROOT / "jobs" / f"{job}.py", *arguments], env=env, text=True,
                          capture_output=True, timeout=300, check=False)  # fmt: skip


def one_error_line(status: int, stderr: str, lake: Path) -> str:
    """The line of a failed run of build_exposures, which has published no table."""
    errors = [line for line in stderr.splitlines() if line.startswith("error:")]
    assert status == EXIT_USER_ERROR, stderr
    assert len(errors) == 1, stderr
    assert "Traceback" not in stderr
    assert not [p for p in lake.rglob("*") if p.is_file() and p.parent.name != "raw_index"]
    return errors[0]


def process_error(dataset: str, raw: Path, lake: Path, **environment: str) -> str:
    """The error line of a separate process."""
    flags = ("--dataset", dataset, "--raw", str(raw), "--lake", str(lake))
    result = run_process("build_exposures", *flags, **environment)
    return one_error_line(result.returncode, result.stderr, lake)


def spark_must_not_start(*_):
    pytest.fail("Spark was started")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs an entry point, which must not start Spark, in this process; the exit status and standard error."""
    monkeypatch.delenv("MTORL_DEBUG", raising=False)

    def run(job: str, *arguments: str) -> tuple[int, str]:
        module = importlib.import_module(f"jobs.{job}")
        monkeypatch.setattr(module, "spark_context", spark_must_not_start)
        monkeypatch.setattr(sys, "argv", [job, *arguments])
        with pytest.raises(SystemExit) as end:
            exit_with_one_line(module.main)
        return int(end.value.code or 0), capsys.readouterr().err

    return run


@pytest.fixture
def error(run):
    """Runs build_exposures with wrong input; the error line."""

    def error(dataset: str, raw: Path, lake: Path, *options: str) -> str:
        flags = ("--dataset", dataset, "--raw", str(raw), "--lake", str(lake))
        return one_error_line(*run("build_exposures", *flags, *options), lake)

    return error


@pytest.mark.spark
def test_missing_folder(tmp_path):
    """In a separate process: a shell sees the same exit status and error line."""
    assert "no such folder" in process_error("kuairand", tmp_path / "nowhere", tmp_path / "lake")


def test_empty_folder(error, tmp_path):
    (tmp_path / "raw").mkdir()
    assert "expected log_random_*.csv" in error("kuairand", tmp_path / "raw", tmp_path / "lake")


def test_unknown_dataset(error, tmp_path):
    line = error("kuairant", write_kuairand(tmp_path / "raw", []), tmp_path / "lake")
    assert "unknown dataset 'kuairant': choose one of criteo, kuairand" in line


def test_renamed_column(spark, tmp_path, monkeypatch, capsys):
    raw, lake = write_kuairand(tmp_path / "raw", [kuairand_row()]), Lake(tmp_path / "lake")
    log = raw / "log_random_4_22_to_5_08_pure.csv"
    log.write_text(log.read_text().replace("is_click", "clicked", 1))
    status = Jobs(spark, lake, "kuairand", monkeypatch).run("build_exposures", "--raw", str(raw))
    output = capsys.readouterr()
    line = one_error_line(status, output.err, lake.root)
    assert "most often because: the file has no column is_click (it has clicked)" in line
    assert f"note: {log.name}: the file has no column is_click (it has clicked); its rows are refused" in output.out


def test_a_plain_file_named_gz(tmp_path):
    raw = write_criteo(tmp_path / "raw", [criteo_row()])
    file = raw / "criteo_attribution_dataset.tsv.gz"
    file.write_bytes(gzip.decompress(file.read_bytes()))
    log = find_raw_files(get_dataset("criteo"), raw)["log"]
    assert (log.paths, log.notes) == ((file,), ())


def cut_gz(folder: Path) -> Path:
    raw = write_criteo(folder, [criteo_row(uid=k, timestamp=k, cost=k / 7) for k in range(20_000)])
    file = raw / "criteo_attribution_dataset.tsv.gz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


@pytest.mark.spark
def test_a_gz_cut_off_in_the_middle(tmp_path):
    file = cut_gz(tmp_path / "raw")
    os.utime(file, (0, 0))
    line = process_error("criteo", file.parent, tmp_path / "lake")
    assert "criteo_attribution_dataset.tsv.gz is cut off or damaged: fetch it again" in line


def test_a_gz_that_is_still_being_written_is_tried_again(spark, tmp_path, monkeypatch, capsys):
    file, lake = cut_gz(tmp_path / "raw"), Lake(tmp_path / "lake")
    status = Jobs(spark, lake, "criteo", monkeypatch).run("build_exposures", "--raw", str(file.parent))
    assert status == EXIT_NOT_YET
    assert "it has changed 0 minutes ago and may still be being written" in capsys.readouterr().out
    assert not lake.days("exposures", "criteo")


def test_a_day_outside_the_log(spark, tmp_path, monkeypatch, capsys):
    raw, lake = write_kuairand(tmp_path / "raw", [kuairand_row()]), Lake(tmp_path / "lake")
    day = ("--from", "2023-01-01", "--to", "2023-01-01")
    status = Jobs(spark, lake, "kuairand", monkeypatch).run("build_exposures", "--raw", str(raw), *day)
    line = one_error_line(status, capsys.readouterr().err, lake.root)
    assert "2023-01-01 is outside the log, which has the days 2022-04-22 to 2022-04-22" in line


def test_a_day_that_is_none(error, tmp_path):
    raw = write_kuairand(tmp_path / "raw", [kuairand_row()])
    assert "'../../etc' is not a day" in error("kuairand", raw, tmp_path / "lake", "--from", "../../etc")


def test_a_range_and_up_to_exclude_each_other(error, tmp_path):
    raw = write_kuairand(tmp_path / "raw", [kuairand_row()])
    line = error("kuairand", raw, tmp_path / "lake", "--up-to", "2022-04-22", "--from", "2022-04-22")
    assert "--up-to names all days: leave out --from and --to" in line


@pytest.mark.spark
def test_no_java(tmp_path):
    raw = write_kuairand(tmp_path / "raw", [kuairand_row()])
    line = process_error("kuairand", raw, tmp_path / "lake", JAVA_HOME=str(tmp_path / "no-java"), PATH="/nowhere")
    assert "is Java 17 or 21 installed" in line


def test_a_lake_that_cannot_be_written(run, tmp_path):
    raw = write_kuairand(tmp_path / "raw", [kuairand_row()])
    (tmp_path / "lake").write_text("a file where the lake should be")
    flags = ("--dataset", "kuairand", "--raw", str(raw), "--lake", str(tmp_path / "lake"))
    status, stderr = run("build_exposures", *flags)
    assert status == EXIT_USER_ERROR
    assert "cannot write to the lake" in stderr
    assert "Traceback" not in stderr


def test_journeys_without_exposures(run, tmp_path):
    status, stderr = run("build_journeys", "--dataset", "kuairand", "--lake", str(tmp_path))
    assert status == EXIT_USER_ERROR
    assert "no exposures for kuairand" in stderr


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

    def read() -> EarlierHistory:
        day = DAY if table == "exposures" else "2017-01-03"
        return earlier_history(published, get_dataset("criteo"), day, DAY)

    audited("failed")
    with pytest.raises(UserError, match=f"^{table} for criteo on {DAY} failed its audit: .*; repair the day"):
        read()
    audited(HOLDS)
    files = read().exposures if table == "exposures" else read().journeys
    assert files == {DAY: published[table, "criteo", DAY].data_files()}


@pytest.mark.parametrize("job", ["build_exposures", "build_journeys", "build_feature_spec", "build_sequences"])
def test_a_lake_that_cannot_be_written_is_refused_before_spark_starts(published, tmp_path, monkeypatch, job):
    raw = ("--raw", str(write_criteo(tmp_path / "raw", [criteo_row()]))) if job == "build_exposures" else ()
    module = importlib.import_module(f"jobs.{job}")
    if job != "build_feature_spec":  # needs no Spark
        monkeypatch.setattr(module, "spark_context", spark_must_not_start)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(sys, "argv", [job, "--dataset", "criteo", "--lake", str(published.root), "--this-code", *raw])
    with pytest.raises(UserError, match=r"cannot write to the lake .*Read-only file system.*LAKE="):
        module.main()


@pytest.mark.parametrize("odd", ["[2022]", "{a}", "*", "what?", "back\\slash"])
def test_a_lake_that_spark_would_read_as_a_pattern_and_a_raw_folder_that_it_does_not_read(error, tmp_path, odd):
    raw = write_kuairand(tmp_path / "raw", [kuairand_row()])
    assert "would be read as a pattern" in error("kuairand", raw, tmp_path / odd)
    (raw / "log_random_4_22_to_5_08_pure.csv").rename(raw / f"log_random_{odd}.csv")
    log = find_raw_files(get_dataset("kuairand"), raw.rename(tmp_path / odd))["log"]
    assert tmp_path / odd / f"log_random_{odd}.csv" in log.paths


def test_odd_cells_cost_their_own_rows_and_no_more_days(spark, tmp_path, monkeypatch, capsys):
    day_ms = 86_400_000
    monday = 1650597047647 + 3 * day_ms
    odd = [
        {"time_ms": 0}, {"time_ms": "9" * 18}, {"date": 20221399}, {"is_rand": 10**12},
        {"time_ms": monday + 300 * day_ms, "date": 20230219, "is_click": 2},
    ]  # fmt: skip
    log = [kuairand_row(), kuairand_row(time_ms=monday, date=20220425), *(kuairand_row(**cells) for cells in odd)]
    raw = str(write_kuairand(tmp_path / "raw", log))
    monkeypatch.setattr(log_days, "spark_context", lambda *_: nullcontext(spark))
    monkeypatch.setattr(sys, "argv", ["log_days", "--dataset", "kuairand", "--raw", raw])
    log_days.main()
    assert capsys.readouterr().out == "2022-04-22 2022-04-25\n"

    lake = Lake(tmp_path / "lake")
    Jobs(spark, lake, "kuairand", monkeypatch).ok("build_exposures", "--raw", raw)
    output = capsys.readouterr().out
    assert "2022-04-22..2022-04-25: 7 rows in = 2 exposures + 0 duplicates + 5 quarantined" in output
    days = [f"2022-04-{day}" for day in (22, 23, 24, 25)]
    assert partitions(lake, "exposures") == days
    assert partitions(lake, "quarantine") == [*days, UNDATED]
    # Only rows whose own time is valid and inside the log belong to a day.
    assert quarantine_reasons(lake, "2022-04-22") == ["date is not a day", "is_rand is neither 0 nor 1"]
    assert len(quarantine_reasons(lake, UNDATED)) == 3
    undated = lake["quarantine", "kuairand", UNDATED].manifest
    assert undated.counts == {"rows_in": 7}

    # A build of one day includes the undated rows of the whole log, and no rows of other days.
    one_day = Lake(tmp_path / "one_day")
    span = ("--from", "2022-04-25", "--to", "2022-04-25")
    Jobs(spark, one_day, "kuairand", monkeypatch).ok("build_exposures", "--raw", raw, *span)
    output = capsys.readouterr().out
    assert "2022-04-25..2022-04-25: 4 rows in = 1 exposure + 0 duplicates + 3 quarantined" in output
    assert one_day["quarantine", "kuairand", UNDATED].manifest == undated


def partitions(lake: Lake, table: str) -> list[str]:
    return sorted(lake.manifests("kuairand", [table])[table])


def quarantine_reasons(lake: Lake, day: str) -> list[str]:
    return sorted(lake["quarantine", "kuairand", day].read().to_pandas().reason)

"""Failures in Spark that a person can repair become one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.errors import ArithmeticException, PySparkException

from jobs.spark.session import configured, explain_failure
from schemas.errors import NothingToDoYet, UserError


@pytest.mark.parametrize("kind", [UserError, NothingToDoYet])
def test_an_error_that_a_worker_raises_for_a_person_stays_the_same(kind):
    text = f"Traceback ...\nschemas.errors.{kind.__name__}: log 1.csv.gz is cut off or damaged\n\n  at java"
    error = explain_failure(PySparkException(text))
    assert type(error) is kind
    assert str(error) == "log 1.csv.gz is cut off or damaged"


def test_any_other_error_is_unchanged_and_may_be_tried_again():
    error = PySparkException("java.io.EOFException at PythonRunner")
    assert explain_failure(error) is error


def test_a_path_that_spark_cannot_see():
    text = "[PATH_NOT_FOUND] Path does not exist: file:/nfs/my%20lake/exposures. SQLSTATE: 42K03"
    assert str(explain_failure(PySparkException(text))) == (
        "Spark cannot find file:/nfs/my lake/exposures: every machine that runs Spark must see RAW and LAKE under "
        "these paths"
    )


def test_python_workers_find_our_modules():
    class Settings(dict):
        def config(self, key, value):
            self[key] = value
            return self

    folder = Path(configured(Settings())["spark.executorEnv.PYTHONPATH"])
    assert (folder / "jobs" / "spark" / "session.py").is_file()


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.parametrize(
    ("submit", "size"),
    [([], "32m"), (["spark-submit", "--master", "local[1]"], "32m"),
     (["spark-submit", "--master", "local[1]", "--conf", "spark.sql.files.maxPartitionBytes=5m"], "5m")],
)  # fmt: skip
def test_files_are_cut_the_same_however_a_job_is_started(tmp_path, submit, size):
    job = tmp_path / "job.py"
    job.write_text(
        "from jobs.spark.session import spark_session\n"
        "with spark_session('sizes') as spark:\n"
        "    print('size', spark.conf.get('spark.sql.files.maxPartitionBytes'))\n"
    )
    root = Path(__file__).resolve().parents[3]
    bin_folder = Path(sys.executable).parent
    environment = {**os.environ, "PYTHONPATH": str(root), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    for name in ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET", "SPARK_HOME"):
        environment.pop(name, None)
    command = [*submit, job] if submit else [sys.executable, job]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False, timeout=120)
    assert f"size {size}" in done.stdout.splitlines(), done.stderr[-2000:]


def test_a_full_disk():
    assert "the disk is full" in str(explain_failure(PySparkException("java.io.IOException: No space left on device")))


def test_an_expression_that_stops_at_a_row_is_one_clear_line():
    division = ArithmeticException("[DIVIDE_BY_ZERO] Division by zero. If necessary set ansi to false\n== DataFrame ==")
    explained = explain_failure(division)
    assert isinstance(explained, UserError)
    assert str(explained) == (
        "an expression of the contract stops at a row of the log: [DIVIDE_BY_ZERO] Division by zero: use try_divide, "
        "try_cast or a similar function in it"
    )
    assert explain_failure(error := PySparkException("another")) is error

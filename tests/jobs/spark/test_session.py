"""The session of the entry points."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.spark.session import configured


def test_python_workers_find_our_modules():
    class Settings(dict):
        def config(self, key, value):
            self[key] = value
            return self

    folder = Path(configured(Settings())["spark.executorEnv.PYTHONPATH"])
    assert (folder / "jobs" / "spark" / "session.py").is_file()


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """The command in a separate process, which can import our modules and starts another Java."""
    root = Path(__file__).resolve().parents[3]
    bin_folder = Path(sys.executable).parent
    environment = {**os.environ, "PYTHONPATH": str(root), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    for name in ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET", "SPARK_HOME"):
        environment.pop(name, None)
    return subprocess.run(
        list(map(str, command)), env=environment, text=True, capture_output=True, check=False, timeout=120
    )


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
    done = run(*submit, job) if submit else run(sys.executable, job)
    assert f"size {size}" in done.stdout.splitlines(), done.stderr[-2000:]


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.parametrize("form", ["rdd", "dataframe"])
def test_an_error_for_people_in_a_worker_is_one_line_without_a_stack(tmp_path, form):
    job = tmp_path / "job.py"
    action = {
        "rdd": "spark.sparkContext.parallelize(range(2), 2).map(fail).collect()",
        "dataframe": "spark.range(2).mapInArrow(fail, 'id bigint').collect()",
    }[form]
    job.write_text(
        "from jobs.spark.session import spark_session\n"
        "from schemas.errors import UserError, exit_with_one_line\n"
        "def fail(_):\n"
        "    raise UserError('the log of 2 May has no rows: restore it')\n"
        "def main():\n"
        "    with spark_session('failing') as spark:\n"
        f"        {action}\n"
        "exit_with_one_line(main)\n"
    )
    lines = run(sys.executable, job).stderr.splitlines()
    assert lines[-1] == "error: the log of 2 May has no rows: restore it"
    assert not [line for line in lines if "at org.apache" in line or "Traceback" in line]

"""The Spark context of the entry points."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.spark.context import configured


def test_python_workers_find_our_modules():
    class Settings(dict):
        def setAll(self, pairs):
            self.update(pairs)
            return self

    folder = Path(configured(Settings())["spark.executorEnv.PYTHONPATH"])
    assert (folder / "jobs" / "spark" / "context.py").is_file()


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
def test_an_error_for_people_in_a_worker_is_one_line_without_a_stack(tmp_path):
    job = tmp_path / "job.py"
    job.write_text(
        "from jobs.spark.context import spark_context\n"
        "from schemas.errors import UserError, exit_with_one_line\n"
        "def fail(_):\n"
        "    raise UserError('the log of 2 May has no rows: restore it')\n"
        "def main():\n"
        "    with spark_context('failing') as spark:\n"
        "        spark.parallelize(range(2), 2).map(fail).collect()\n"
        "exit_with_one_line(main)\n"
    )
    lines = run(sys.executable, job).stderr.splitlines()
    assert lines[-1] == "error: the log of 2 May has no rows: restore it"
    assert not [line for line in lines if "at org.apache" in line or "Traceback" in line]

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

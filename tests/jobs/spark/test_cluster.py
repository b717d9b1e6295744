"""A cluster is a change of connection: the journey build, as a task of Airflow, on a master and worker on 127.0.0.1."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyspark
import pytest
from fast_java import JAVA_OPTIONS
from lakes import unpublish
from raw_logs import criteo_row, write_criteo

from lakehouse.lake import Lake

ROOT = Path(__file__).resolve().parents[3]
SPARK_HOME = Path(pyspark.__file__).parent
DAY = "2017-01-01"
pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(log: Path, pattern: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if re.search(pattern, log.read_text()):
            return
        time.sleep(0.2)
    pytest.fail(f"{pattern!r} did not appear within 60 s in: {log.read_text()[-2000:]}")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The URL of a master with one worker of one core; everything it starts is ended again."""
    port = free_port()
    environment = os.environ | {
        "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_HOME": str(SPARK_HOME), "SPARK_NO_DAEMONIZE": "1",
        "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable,
        "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false", "SPARK_DAEMON_JAVA_OPTS": JAVA_OPTIONS,
    }  # fmt: skip
    url = f"spark://127.0.0.1:{port}"
    started = []

    def start(name: str, *arguments: str) -> Path:
        log = tmp_path / f"{name}.log"
        with log.open("w") as output:
            command = [str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{arguments[0]}"]
            started.append(subprocess.Popen([*command, *arguments[1:]], env=environment, stdout=output, stderr=output))
        return log

    try:
        log = start("master", "master.Master", "--host", "127.0.0.1", "--port", str(port),
                    "--webui-port", str(free_port()))  # fmt: skip
        wait_for(log, "I have been elected leader")
        log = start("worker", "worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", "1g",
                    "--webui-port", str(free_port()), "--work-dir", str(tmp_path / "work"), url)  # fmt: skip
        wait_for(log, "Successfully registered with master")
        yield url
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=30)


# The work of tasks of the DAGs; the connection is in the environment.
TASKS = """
import json, sys
from dags.operators import SparkStep
for job, *arguments in json.loads(sys.argv[1]):
    SparkStep(task_id="task", job=f"jobs/{job}.py", arguments=arguments).execute({})
"""


@pytest.fixture
def run_tasks(tmp_path: Path) -> Callable[..., None]:
    """Run jobs in turn, each as a Spark task of the DAGs does, on a connection to this master."""

    def run(master: str, *jobs: list[str]) -> None:
        environment = os.environ | {
            "AIRFLOW_HOME": str(tmp_path / "airflow"), "MTORL_DRIVER_MEMORY": "1g",
            "AIRFLOW_CONN_SPARK": json.dumps({"conn_type": "spark", "host": master}),
            "PYTHONPATH": str(ROOT), "SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_SUBMIT_OPTS": f"{JAVA_OPTIONS} -Dspark.executor.extraJavaOptions=-XX:TieredStopAtLevel=1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        command = [sys.executable, "-c", TASKS, json.dumps(jobs)]
        result = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=240, check=False)
        assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]

    return run


def test_the_journey_build_runs_on_a_cluster_and_gives_the_same_bytes(cluster, run_tasks, tmp_path):
    rows = [
        criteo_row(uid=k % 40, timestamp=k * 60, click=(k % 3 == 0 and 1) or 0, cat8=k % 4, cost=k / 1000)
        for k in range(600)
    ]
    raw = write_criteo(tmp_path / "raw", rows)
    local, on_cluster = Lake(tmp_path / "local"), Lake(tmp_path / "cluster")

    def job(name: str, lake: Lake, *arguments: str) -> list[str]:
        return [name, "--dataset", "criteo", "--lake", str(lake.root), *arguments]

    run_tasks("local[2]", job("build_exposures", local, "--raw", str(raw)), job("build_journeys", local, "--day", DAY))
    shutil.copytree(local.root, on_cluster.root)
    unpublish(on_cluster["journeys", "criteo", DAY])
    run_tasks(cluster, job("build_journeys", on_cluster, "--day", DAY))
    fingerprints = []
    for lake in (local, on_cluster):
        manifest = lake["journeys", "criteo", DAY].manifest
        assert manifest is not None
        assert manifest.rows == 40
        fingerprints.append(manifest.fingerprint)
    assert fingerprints[0] == fingerprints[1]
    assert "Launching executor" in (tmp_path / "worker.log").read_text() or list((tmp_path / "work").glob("app-*"))

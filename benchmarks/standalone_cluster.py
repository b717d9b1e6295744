"""A standalone cluster of Spark on this machine: a master, and workers with one core."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyspark

from benchmarks.commands import ROOT
from schemas.errors import UserError

_SPARK_HOME = Path(pyspark.__file__).parent
_READY_LIMIT_S = 120
_GRACE_S = 30
_WORKER_MEMORY, _EXECUTOR_MEMORY, _DRIVER_MEMORY = "3g", "2g", "1g"
_ENVIRONMENT = {
    "SPARK_LOCAL_IP": "127.0.0.1",
    "SPARK_HOME": str(_SPARK_HOME),
    "PYTHONPATH": str(ROOT),
    "PYSPARK_PYTHON": sys.executable,
    "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """url: of the master. pids: of the master and the workers, which start the executors."""

    url: str
    pids: Sequence[int]

    def submitted(self, job: Sequence[str | Path]) -> list[str | Path]:
        """The command that runs a Spark entry point on this cluster. job: as commands.job."""
        flags = ["--master", self.url, "--driver-memory", _DRIVER_MEMORY, "--executor-memory", _EXECUTOR_MEMORY]
        return [_SPARK_HOME / "bin" / "spark-submit", *flags, *job[1:]]


@contextmanager
def standalone_cluster(workers: int, folder: Path) -> Iterator[Cluster]:
    """folder: of the logs and of the executors' files. Raises UserError if a process is not ready in time."""
    folder.mkdir(parents=True)
    started: list[subprocess.Popen[bytes]] = []
    url = f"spark://127.0.0.1:{_free_port()}"

    def start(name: str, ready: str, *arguments: str | Path) -> None:
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            command = [_SPARK_HOME / "bin" / "spark-class", *arguments, "--webui-port", "0"]
            started.append(subprocess.Popen(command, env=os.environ | _ENVIRONMENT, stdout=output, stderr=output))
        _wait_for(log, ready, started[-1])

    try:
        master, worker = (f"org.apache.spark.deploy.{name}" for name in ("master.Master", "worker.Worker"))
        start("master", "I have been elected leader", master, "--host", "127.0.0.1", "--port", url.rpartition(":")[2])
        for number in range(workers):
            start(
                f"worker-{number}", "Successfully registered with master", worker, url, "--host", "127.0.0.1",
                "--cores", "1", "--memory", _WORKER_MEMORY, "--work-dir", folder / f"work-{number}",
            )  # fmt: skip
        yield Cluster(url, [process.pid for process in started])
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(log: Path, pattern: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _READY_LIMIT_S
    while not re.search(pattern, log.read_text(errors="replace")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"Spark's {log.stem} is not ready: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

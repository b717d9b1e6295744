"""Runs DAGs once, here and now, one after another: their output goes to the end of a log, their progress to the screen.

Usage: python -m bin.embedded_airflow.run_dags LOG [-- DAG TITLE [PARAMETER=VALUE...]]..., in the environment of
bin/common.sh's airflow_environment. A value of digits is passed as a number. The first run that fails is the last one,
and exit status 1.

All runs share one process (dag_tests.py), since Airflow's start takes several times as long as starting a task.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from bin.embedded_airflow.progress import follow, show


def parse_parameters(assignments: Iterable[str]) -> dict[str, str | int]:
    """PARAMETER=VALUE as a dictionary; values of digits as numbers."""
    pairs = (assignment.split("=", 1) for assignment in assignments)
    return {name: int(value) if value.isdecimal() else value for name, value in pairs}


def parse_runs(arguments: Iterable[str]) -> list[dict[str, object]]:
    """The runs, as dag_tests.py reads them: DAG, title and parameters of each."""
    groups: list[list[str]] = []
    for argument in arguments:
        if argument == "--":
            groups.append([])
        else:
            groups[-1].append(argument)
    return [{"dag": dag, "title": title, "conf": parse_parameters(rest)} for dag, title, *rest in groups]


def copied(lines: Iterable[str], log: TextIO) -> Iterator[str]:
    """The lines, each written to the log before it is passed on."""
    for line in lines:
        log.write(line)
        log.flush()
        yield line


def main() -> int:
    log_file, *arguments = sys.argv[1:]
    command = [sys.executable, "-m", "bin.embedded_airflow.dag_tests", json.dumps(parse_runs(arguments))]
    with (
        Path(log_file).open("a") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as run,
    ):
        assert run.stdout is not None
        show(follow(copied(run.stdout, log), iter(time.monotonic, None)), sys.stdout, sys.stderr)
    return 0 if run.returncode == 0 else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # Airflow gets the signal as well, and ends its task
        sys.exit(130)

"""Runs a DAG once, here and now: its output goes to the end of a log, its progress to the screen.

Usage: python -m bin.embedded_airflow.run_dag LOG DAG [PARAMETER=VALUE...], in the environment of bin/common.sh's
airflow_environment. A value of digits is passed as a number. Exit status 1 if the run fails.
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


def copied(lines: Iterable[str], log: TextIO) -> Iterator[str]:
    """The lines, each written to the log before it is passed on."""
    for line in lines:
        log.write(line)
        log.flush()
        yield line


def main() -> int:
    log_file, dag, *assignments = sys.argv[1:]
    command = ["airflow", "dags", "test", dag, "--conf", json.dumps(parse_parameters(assignments))]
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

"""bin/embedded_airflow/run_dag.py, with a fake command `airflow`."""

import json
import os
import sys
from pathlib import Path

import pytest

from bin.embedded_airflow import run_dag

AIRFLOW = f"""#!{sys.executable}
import json, os, sys
print("arguments:", json.dumps(sys.argv[1:]))
print("2026-01-01T00:00:00Z [info     ] [DAG TEST] starting task_id=train map_index=-1", file=sys.stderr)
print("Task instance state updated    [api] new_state=success rows_affected=1")
print("2026-01-01T00:00:00Z [info     ] [DAG TEST] end task task_id=train map_index=-1", flush=True)
sys.exit(int(os.environ.get("AIRFLOW_STATUS", "0")))
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of a run whose command line has been set, with the fake command first in PATH."""
    (tmp_path / "airflow").write_text(AIRFLOW)
    (tmp_path / "airflow").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    log = tmp_path / "run.log"
    log.write_text("an earlier run\n")
    monkeypatch.setattr(sys, "argv", ["run_dag", str(log), "mtorl_history_kuairand", "raw=/a=b", "members=1", "to="])
    return log


def test_all_output_goes_to_the_log_and_progress_to_the_screen(log, capfd):
    assert run_dag.main() == 0
    screen = capfd.readouterr()
    assert (screen.out.split(), screen.err) == (["train", "0", "s"], "")
    earlier, arguments, *task_lines = log.read_text().splitlines()
    assert earlier == "an earlier run"
    assert len(task_lines) == 3
    *command, conf = json.loads(arguments.removeprefix("arguments: "))
    assert command == ["dags", "test", "mtorl_history_kuairand", "--conf"]
    assert json.loads(conf) == {"raw": "/a=b", "members": 1, "to": ""}


def test_a_run_that_fails_has_an_exit_status(log, monkeypatch):
    monkeypatch.setenv("AIRFLOW_STATUS", "3")
    assert run_dag.main() == 1

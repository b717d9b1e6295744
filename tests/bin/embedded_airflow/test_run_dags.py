"""bin/embedded_airflow/run_dags.py and dag_tests.py, with a fake Airflow."""

import json
import sys
from pathlib import Path

import pytest

from bin.embedded_airflow import run_dags

AIRFLOW = """
import json, os, sys
print("arguments:", json.dumps(sys.argv))
print("2026-01-01T00:00:00Z [info     ] [DAG TEST] starting task_id=train map_index=-1", file=sys.stderr, flush=True)
print("Task instance state updated    [api] new_state=success rows_affected=1")
print("2026-01-01T00:00:00Z [info     ] [DAG TEST] end task task_id=train map_index=-1", flush=True)
if sys.argv[3] == os.environ.get("FAILING_DAG"):
    sys.exit("DagRun failed")
"""
RUNS = [
    "--", "mtorl_history_kuairand", "tables and a model", "raw=/a=b", "members=1", "to=",
    "--", "mtorl_report_kuairand", "the page", "date=2022-04-10",
]  # fmt: skip


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of two runs whose command line has been set, with the fake package first in the path of modules."""
    (tmp_path / "airflow").mkdir()
    (tmp_path / "airflow" / "__init__.py").touch()
    (tmp_path / "airflow" / "__main__.py").write_text(AIRFLOW)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[3]}")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    log = tmp_path / "run.log"
    log.write_text("an earlier run\n")
    monkeypatch.setattr(sys, "argv", ["run_dags", str(log), *RUNS])
    return log


def test_all_output_goes_to_the_log_and_progress_to_the_screen(log, capfd):
    assert run_dags.main() == 0
    screen = capfd.readouterr()
    assert screen.err == ""
    assert [" ".join(line.split()) for line in screen.out.splitlines()] == [
        "mtorl_history_kuairand: tables and a model", "train 0 s", "mtorl_report_kuairand: the page", "train 0 s",
    ]  # fmt: skip
    earlier, *lines = log.read_text().splitlines()
    assert earlier == "an earlier run"
    assert len(lines) == 2 * 5
    commands = [json.loads(line.removeprefix("arguments: ")) for line in lines if line.startswith("arguments: ")]
    assert [command[1:-1] for command in commands] == [
        ["dags", "test", f"mtorl_{kind}_kuairand", "--conf"] for kind in ("history", "report")
    ]
    assert [json.loads(command[-1]) for command in commands] == [
        {"raw": "/a=b", "members": 1, "to": ""}, {"date": "2022-04-10"},
    ]  # fmt: skip


def test_a_run_that_fails_is_the_last_one(log, monkeypatch):
    monkeypatch.setenv("FAILING_DAG", "mtorl_history_kuairand")
    assert run_dags.main() == 1
    assert "mtorl_report_kuairand" not in log.read_text()

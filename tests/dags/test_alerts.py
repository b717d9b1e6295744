"""One readable line for people, in a log and at a webhook."""

import json
import os
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from dags import alerts

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MTORL_ALERTS", str(tmp_path / "alerts.log"))
    monkeypatch.delenv("MTORL_WEBHOOK", raising=False)
    return tmp_path / "alerts.log"


@pytest.fixture
def webhook(monkeypatch) -> Iterator[list[dict]]:
    """What was posted so far."""
    posted: list[dict] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MTORL_WEBHOOK", f"http://127.0.0.1:{server.server_port}/secret")
        yield posted
        server.shutdown()


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("2", r"FAILED tiny_python .+ step: error: wrong header"),
        ("1", r"FAILED tiny_python .+ step: tests.dags.stand_in ended with status 1: error: wrong header"),
        ("3", r"NO ROWS tiny_python .+ step: the log does not reach that day; .+"),
    ],
)
def test_a_run_that_fails_or_finds_nothing_is_told_of_once(tiny_bag, log, tmp_path, status, line):
    conf = {"calls": str(tmp_path / "calls"), "status": status, "typed": ""}
    tiny_bag.dags["tiny_python"].test(run_conf=conf)
    (told,) = log.read_text().splitlines()  # once, not once a try
    assert re.fullmatch(f"{STAMP} {line}", told)


def test_a_late_run_is_told_of(log):
    alerts.late({"dag_run": {"dag_id": "mtorl_daily_criteo", "partition_key": "2017-01-01"}}, hours=6)
    said = log.read_text()
    assert re.fullmatch(f"{STAMP} LATE mtorl_daily_criteo 2017-01-01: not done 6 hours after it was queued\n", said)


def test_the_webhook_gets_the_same_line(log, webhook):
    alerts.tell("FAILED x")
    assert webhook == [{"text": log.read_text().rstrip("\n")}]


def test_a_webhook_that_does_not_answer_is_a_line_that_keeps_its_address_to_itself(log, monkeypatch):
    monkeypatch.setenv("MTORL_WEBHOOK", "http://127.0.0.1:9/secret")
    alerts.tell("FAILED x")
    first, second = log.read_text().splitlines()
    assert first.endswith("FAILED x")
    assert "the webhook did not take the line above" in second
    assert "secret" not in second


def test_without_a_name_the_log_lies_in_airflows_home(tmp_path, monkeypatch):
    monkeypatch.delenv("MTORL_ALERTS", raising=False)
    monkeypatch.setitem(os.environ, "AIRFLOW_HOME", str(tmp_path))
    alerts.tell("LATE y")
    assert (tmp_path / "alerts.log").read_text().endswith("LATE y\n")


@pytest.mark.parametrize(("kind", "hours"), [("daily", 8), ("nightly", 2)])
def test_scheduled_runs_have_a_deadline_and_every_task_a_time_limit(bag, kind, hours):
    dag = bag.dags[f"mtorl_{kind}_criteo"]
    (deadline,) = dag.deadline if isinstance(dag.deadline, list) else [dag.deadline]
    assert deadline.callback.path == "dags.alerts.late"
    assert deadline.callback.kwargs == {"hours": hours}
    assert deadline.interval.total_seconds() == hours * 3600
    for task in dag.tasks:
        assert task.execution_timeout is not None, task
        assert task.on_failure_callback, task

"""Alerts are one readable line each, in a log and at a webhook."""

import json
import os
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
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
    """The posts so far."""
    posted: list[dict] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Logs nothing."""

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
def test_a_run_that_fails_or_finds_nothing_causes_one_alert(tiny_bag, log, tmp_path, status, line):
    conf = {"calls": str(tmp_path / "calls"), "status": status, "typed": ""}
    tiny_bag.dags["tiny_python"].test(run_conf=conf)
    (alert,) = log.read_text().splitlines()  # one alert, even after several attempts
    assert re.fullmatch(f"{STAMP} {line}", alert)


@pytest.mark.airflow
def test_a_successful_task_whose_last_line_asks_for_something_causes_an_alert(tiny_bag, log, tmp_path):
    conf = {"calls": str(tmp_path / "calls"), "status": "0", "typed": ""}
    assert tiny_bag.dags["tiny_python"].test(run_conf=conf).state == "success"
    assert not log.exists()
    assert tiny_bag.dags["tiny_python"].test(run_conf=conf | {"status": "alert"}).state == "success"
    (alert,) = log.read_text().splitlines()
    assert re.fullmatch(f"{STAMP} ACTION NEEDED tiny_python .+ step: a full training is due", alert)


def test_a_late_run_causes_an_alert(log):
    alerts.late({"dag_run": {"dag_id": "mtorl_daily_criteo", "partition_key": "2017-01-01"}}, hours=6)
    alert = log.read_text()
    assert re.fullmatch(f"{STAMP} LATE mtorl_daily_criteo 2017-01-01: not done 6 hours after it was queued\n", alert)


def test_a_backfill_is_never_late(log):
    """All runs of a backfill are queued together, and then they wait for each other."""
    run = {"dag_id": "mtorl_daily_criteo", "partition_key": "2017-01-01", "run_type": "backfill"}
    alerts.late({"dag_run": run}, hours=8)
    assert not log.exists()
    alerts.late({"dag_run": run | {"run_type": "scheduled"}}, hours=8)
    assert "LATE mtorl_daily_criteo 2017-01-01" in log.read_text()


def test_the_webhook_gets_the_same_line(log, webhook):
    alerts.send("FAILED x")
    assert webhook == [{"text": log.read_text().rstrip("\n")}]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:9/secret", "ConnectionRefusedError"),
        ("hooks.example/secret", "ValueError"),  # without a scheme: Python's message quotes the address
        ("http://127.0.0.1:secret/", "InvalidURL"),
        ("secret://127.0.0.1/", "URLError"),
    ],
)
def test_an_unreachable_webhook_is_reported_without_its_address(log, monkeypatch, address, reason):
    monkeypatch.setenv("MTORL_WEBHOOK", address)
    alerts.send("FAILED x")
    first, second = log.read_text().splitlines()
    assert first.endswith("FAILED x")
    assert re.fullmatch(f"{STAMP} the webhook did not take the line above: {reason}", second)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.0 403 secret\r\n\r\n", "it answered with status 403"),
        (b"secret, but no HTTP\r\n\r\n", "BadStatusLine"),
        (b"", "RemoteDisconnected"),
    ],
)
def test_a_wrong_answer_of_the_webhook_is_reported(log, monkeypatch, answer, reason):
    class Refuse(BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.request.sendall(answer)

    with TCPServer(("127.0.0.1", 0), Refuse) as server:
        Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("MTORL_WEBHOOK", f"http://127.0.0.1:{server.server_address[1]}/secret")
        alerts.send("FAILED x")
    assert re.fullmatch(f"{STAMP} the webhook did not take the line above: {reason}", log.read_text().splitlines()[1])


def test_a_log_that_cannot_be_written_does_not_prevent_the_post(monkeypatch, webhook, capsys):
    """The alert matters most if the disk is full. The line goes to standard error, which the task's log shows."""
    monkeypatch.setenv("MTORL_ALERTS", "/dev/full")
    alerts.send("FAILED x")
    (posted,) = webhook
    assert re.fullmatch(f"{STAMP} FAILED x", posted["text"])
    assert capsys.readouterr().err == f"{posted['text']} (not written to /dev/full: OSError)\n"


def test_the_default_log_is_in_airflows_home(tmp_path, monkeypatch):
    monkeypatch.delenv("MTORL_ALERTS", raising=False)
    monkeypatch.setitem(os.environ, "AIRFLOW_HOME", str(tmp_path))
    alerts.send("LATE y")
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

"""The client of Airflow's REST API where Airflow answers late, not at all, or has begun something by itself."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from checkout import ROOT

from schemas.errors import UserError

sys.path.insert(0, str(ROOT / "bin"))
import backfill


class Answers(BaseHTTPRequestHandler):
    """Breaks the connection as often as the server's `broken` says; notes what it was asked."""

    def answer(self) -> None:
        told = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(f"{self.command} {self.path}")
        if self.path == "/auth/token":
            self.server.told.append(json.loads(told))
        if self.path != "/auth/token" and self.server.broken:
            self.server.broken -= 1
            self.close_connection = True
            return
        content = json.dumps(self.server.says).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as found:
        found.asked, found.broken, found.told, found.says = [], 0, [], {"access_token": "t"}
        Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def airflow(server, tmp_path, monkeypatch) -> backfill.Airflow:
    monkeypatch.setattr(backfill.time, "sleep", lambda _: None)
    (tmp_path / "url").write_text(f"http://127.0.0.1:{server.server_port}")
    (tmp_path / "passwords.json").write_text('{"admin": "secret"}')
    return backfill.Airflow.of_service(tmp_path)


def test_a_question_is_asked_again_where_the_connection_breaks(server, airflow):
    server.broken = backfill.ATTEMPTS - 1
    assert airflow.call("GET", "/api/v2/dags/d")
    assert server.asked.count("GET /api/v2/dags/d") == backfill.ATTEMPTS
    server.broken = backfill.ATTEMPTS
    with pytest.raises(UserError, match="Airflow does not answer at http"):
        airflow.call("GET", "/api/v2/dags/d")


def test_a_backfill_is_not_asked_for_twice(server, airflow):
    server.broken = 1
    with pytest.raises(UserError, match="Airflow does not answer at http"):
        airflow.call("POST", "/api/v2/backfills", {})
    assert server.asked.count("POST /api/v2/backfills") == 1


def test_another_airflow_is_named_with_its_password(server, monkeypatch):
    url = f"http://127.0.0.1:{server.server_port}"
    asked = []
    monkeypatch.setattr(sys, "argv", ["backfill.py", "kuairand", "2024-05-08", "2024-05-09"])
    monkeypatch.setattr(backfill, "backfill", lambda airflow, *_: asked.append(airflow.url) or backfill.Counter())
    monkeypatch.setenv("AIRFLOW_URL", "localhost:8080")
    with pytest.raises(UserError, match="AIRFLOW_URL=localhost:8080"):
        backfill.main()
    monkeypatch.setenv("AIRFLOW_URL", f"{url}/")
    monkeypatch.delenv("AIRFLOW_ADMIN_PASSWORD", raising=False)
    with pytest.raises(UserError, match="AIRFLOW_ADMIN_PASSWORD"):
        backfill.main()
    monkeypatch.setenv("AIRFLOW_ADMIN_PASSWORD", "secret")
    backfill.main()
    assert (asked, server.asked) == ([url], ["POST /auth/token"])
    assert server.told == [{"username": "admin", "password": "secret"}]
    server.says = "please log in"
    with pytest.raises(UserError, match=f"what answers at {url} is not Airflow"):
        backfill.main()


def test_the_password_of_the_service_is_its_own(server, airflow):
    assert server.told == [{"username": "admin", "password": "secret"}]


def test_what_is_stale_in_another_airflows_lake_is_not_looked_for_here():
    told = {**os.environ, "AIRFLOW_URL": "http://localhost:1", "DATASET": "kuairand"}
    done = subprocess.run(
        ["bin/service.sh", "backfill"], cwd=ROOT, env=told, text=True, capture_output=True, check=False
    )
    assert (done.returncode, "AIRFLOW_URL needs FROM and TO" in done.stderr) == (2, True), done.stderr


class Dags:
    """Airflow, as far as switching DAGs on and off goes. active: the runs that are not through."""

    def __init__(self, **paused: bool):
        self.paused, self.active = paused, []

    def call(self, method: str, path: str, body: dict[str, bool] | None = None) -> dict[str, object]:
        name, _, more = path.removeprefix("/api/v2/dags/").partition("/")
        if more:
            assert more == f"dagRuns?{backfill.ACTIVE}"
            return {"dag_runs": [run for run in self.active if run["dag_id"] == name]}
        if method == "PATCH":
            self.paused[name] = body["is_paused"]
        return {"is_paused": self.paused[name]}


def test_dags_are_left_as_they_were_found():
    dags = Dags(daily=True, nightly=False)
    with backfill.unpaused(dags, "daily", "nightly"):
        assert dags.paused == {"daily": False, "nightly": False}
    assert dags.paused == {"daily": True, "nightly": False}


def test_a_run_that_began_meanwhile_is_waited_for(monkeypatch, capsys):
    dags = Dags(daily=True, nightly=True)
    monkeypatch.setattr(backfill.time, "sleep", lambda _: dags.active.pop())
    with backfill.unpaused(dags, "daily", "nightly"):
        dags.active = [{"dag_id": name, "partition_key": "2024-05-09"} for name in ("nightly", "daily")]
    assert dags.paused == {"daily": True, "nightly": True}
    assert capsys.readouterr().out == ""


def test_a_run_that_takes_long_is_not_left_standing(monkeypatch, capsys):
    monkeypatch.setattr(backfill, "THROUGH_S", 0)
    dags = Dags(daily=True, nightly=True)
    with backfill.unpaused(dags, "daily", "nightly"):
        dags.active = [{"dag_id": "daily", "partition_key": "2024-05-09"}]
    assert dags.paused == {"daily": False, "nightly": False}
    assert "stay switched on: daily of 2024-05-09 began meanwhile" in capsys.readouterr().out


def test_a_backfill_that_nobody_waits_for_any_more_goes_on(capsys):
    dags = Dags(daily=True)
    with pytest.raises(KeyboardInterrupt), backfill.unpaused(dags, "daily"):
        raise KeyboardInterrupt
    assert dags.paused == {"daily": False}
    assert "goes on in Airflow, so daily stay switched on" in capsys.readouterr().err

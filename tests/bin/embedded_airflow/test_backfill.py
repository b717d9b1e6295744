"""make backfill: which Airflow it works in, and how it leaves the DAGs there."""

import os
import subprocess
import sys

import pytest
from checkout import ROOT

from bin.embedded_airflow import backfill
from schemas.errors import UserError


def test_another_airflow_is_named_with_its_password(server, monkeypatch):
    url = f"http://127.0.0.1:{server.server_port}"
    urls, confs = [], []

    def record(airflow, *_, **conf):
        urls.append(airflow.url)
        confs.append(conf)
        return backfill.Counter()

    monkeypatch.setattr(sys, "argv", ["backfill.py", "kuairand", "2024-05-08", "2024-05-09"])
    monkeypatch.setattr(backfill, "backfill", record)
    monkeypatch.setenv("AIRFLOW_URL", "localhost:8080")
    with pytest.raises(UserError, match="AIRFLOW_URL=localhost:8080"):
        backfill.main()
    monkeypatch.setenv("AIRFLOW_URL", f"{url}/")
    monkeypatch.delenv("AIRFLOW_ADMIN_PASSWORD", raising=False)
    with pytest.raises(UserError, match="AIRFLOW_ADMIN_PASSWORD"):
        backfill.main()
    monkeypatch.setenv("AIRFLOW_ADMIN_PASSWORD", "secret")
    monkeypatch.setenv("METHOD", "rmtl")
    backfill.main()
    assert confs == [{"method": "rmtl"}]
    assert (urls, server.requests) == ([url], ["POST /auth/token"])
    assert server.logins == [{"username": "admin", "password": "secret"}]


def test_the_stale_days_of_another_airflows_lake_are_not_looked_up_here():
    environment = {**os.environ, "AIRFLOW_URL": "http://localhost:1", "DATASET": "kuairand"}
    done = subprocess.run(
        ["bin/service.sh", "backfill"], cwd=ROOT, env=environment, text=True, capture_output=True, check=False
    )
    assert (done.returncode, "AIRFLOW_URL needs FROM and TO" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("run", "nightly_state", "outcome"),
    [
        (("success", "success"), "success", "success"),
        (("success", "success"), "failed", "failed"),
        (("success", "success"), None, "failed"),
        (("success", "skipped"), None, "no rows"),
        (("failed", "skipped"), None, "failed"),
        (("failed", "upstream_failed"), None, "failed"),
    ],
)
def test_a_day_has_succeeded_when_its_night_has(run, nightly_state, outcome):
    assert backfill.DailyRun(*run).outcome(nightly_state) == outcome


class DagSwitches:
    """The part of Airflow that switches DAGs on and off. unfinished: runs that have not ended."""

    def __init__(self, **paused: bool):
        self.paused, self.unfinished = paused, []

    def call(self, method: str, path: str, body: dict[str, bool] | None = None) -> dict[str, object]:
        dag, _, query = path.removeprefix("/api/v2/dags/").partition("/")
        if query:
            assert query == f"dagRuns?{backfill.UNFINISHED_QUERY}"
            return {"dag_runs": [run for run in self.unfinished if run["dag_id"] == dag]}
        if method == "PATCH":
            self.paused[dag] = body["is_paused"]
        return {"is_paused": self.paused[dag]}


def test_only_dags_that_were_paused_are_paused_afterwards():
    airflow = DagSwitches(daily=True, nightly=False)
    with backfill.unpaused(airflow, "daily", "nightly"):
        assert airflow.paused == {"daily": False, "nightly": False}
    assert airflow.paused == {"daily": True, "nightly": False}


def test_other_runs_that_have_begun_are_waited_for(monkeypatch, capsys):
    airflow = DagSwitches(daily=True, nightly=True)
    monkeypatch.setattr(backfill.time, "sleep", lambda _: airflow.unfinished.pop())
    with backfill.unpaused(airflow, "daily", "nightly"):
        airflow.unfinished = [{"dag_id": name, "partition_key": "2024-05-09"} for name in ("nightly", "daily")]
    assert airflow.paused == {"daily": True, "nightly": True}
    assert capsys.readouterr().out == ""


def test_dags_stay_switched_on_while_another_run_takes_long(monkeypatch, capsys):
    monkeypatch.setattr(backfill, "OTHER_RUNS_LIMIT_S", 0)
    airflow = DagSwitches(daily=True, nightly=True)
    with backfill.unpaused(airflow, "daily", "nightly"):
        airflow.unfinished = [{"dag_id": "daily", "partition_key": "2024-05-09"}]
    assert airflow.paused == {"daily": False, "nightly": False}
    assert "stay switched on because of a run that has not ended: daily of 2024-05-09" in capsys.readouterr().out


def test_dags_stay_switched_on_where_the_wait_is_interrupted(capsys):
    airflow = DagSwitches(daily=True)
    with pytest.raises(KeyboardInterrupt), backfill.unpaused(airflow, "daily"):
        raise KeyboardInterrupt
    assert airflow.paused == {"daily": False}
    assert "continues in Airflow; daily stay switched on" in capsys.readouterr().err

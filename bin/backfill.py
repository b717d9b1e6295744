"""Backfills the daily DAG of a dataset in the running Airflow, and waits for it.

Usage: python bin/backfill.py DATASET FROM TO. Goes through the REST API: the command line of Airflow writes to
SQLite from a second process and is refused ("database is locked") about one time in three.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from schemas.errors import UserError, exit_with_one_line
from schemas.paths import days_between

ATTEMPTS = 5
POLL_S = 3
# Days are rebuilt also where they succeeded before: that is how a corrected raw file gets through.
REPROCESS = "completed"


class Airflow:
    """The REST API of the service whose AIRFLOW_HOME is `home`. Raises UserError where it is not running."""

    def __init__(self, home: Path):
        try:
            self.url = (home / "url").read_text()
            password = json.loads((home / "passwords.json").read_text())["admin"]
        except FileNotFoundError:
            raise UserError("Airflow is not running: start it with make up") from None
        self.token = ""
        self.token = self.call("POST", "/auth/token", {"username": "admin", "password": password})["access_token"]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer as a dictionary; tried again where the database was locked (status 5xx)."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        for attempt in range(1, ATTEMPTS + 1):
            request = urllib.request.Request(self.url + path, data, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code < 500 or attempt == ATTEMPTS:
                    raise UserError(f"Airflow refuses ({error.code}): {_detail(error)}") from error
                time.sleep(attempt)
            except urllib.error.URLError as error:
                raise UserError(f"Airflow does not answer at {self.url}: start it with make up") from error
        raise AssertionError("unreachable: the last attempt returns or raises")


def _detail(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):  # not Airflow's own JSON
        return text[:300]


def backfill(airflow: Airflow, dataset: str, first: str, last: str) -> Counter[str]:
    """Run the daily DAG for each day; the number of runs by final state."""
    days = days_between(first, last)
    dag = f"mtorl_daily_{dataset}"
    # A paused DAG keeps its backfill waiting; the nightly run follows the daily one.
    for name in (dag, f"mtorl_nightly_{dataset}"):
        airflow.call("PATCH", f"/api/v2/dags/{name}", {"is_paused": False})
    created = airflow.call(
        "POST",
        "/api/v2/backfills",
        {
            "dag_id": dag,
            "from_date": f"{first}T00:00:00Z",
            "to_date": f"{last}T00:00:00Z",
            "reprocess_behavior": REPROCESS,
            "max_active_runs": 1,
        },
    )
    print(f"backfill {created['id']} of {dag}, {first} to {last}; watch it at {airflow.url}/dags/{dag}", flush=True)
    done: dict[str, str] = {}
    while len(done) < len(days):
        time.sleep(POLL_S)
        for day, state in _states(airflow, dag, created["created_at"], days).items():
            if state in ("success", "failed") and day not in done:
                done[day] = state
                print(f"  {day} {state}", flush=True)
        # Days that Airflow leaves out (one of its runs is active) would never come.
        if airflow.call("GET", f"/api/v2/backfills/{created['id']}")["completed_at"]:
            break
    return Counter(done.get(day, "not run") for day in days)


def _states(airflow: Airflow, dag: str, since: str, days: list[str]) -> dict[str, str]:
    """The state of the run of each day that was queued since then."""
    states: dict[str, str] = {}
    for day in days:
        query = urllib.parse.urlencode({"partition_key_pattern": day, "run_type": "backfill", "order_by": "-id"})
        for run in airflow.call("GET", f"/api/v2/dags/{dag}/dagRuns?{query}")["dag_runs"]:
            if run["partition_key"] == day and (run["queued_at"] or "") >= since:
                states.setdefault(day, run["state"])
    return states


def main() -> None:
    dataset, first, last = sys.argv[1:]
    days_between(first, last)
    states = backfill(Airflow(Path(os.environ["AIRFLOW_HOME"])), dataset, first, last)
    if states.total() > states["success"]:
        left = ", ".join(f"{count} {state}" for state, count in sorted(states.items()) if state != "success")
        raise UserError(f"of {states.total()} days {states['success']} succeeded, {left}: see Airflow's task logs")
    print(f"{states['success']} days done")


if __name__ == "__main__":
    exit_with_one_line(main)

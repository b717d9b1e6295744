"""Backfills the daily DAG of a dataset in the running Airflow, and waits for it and for the runs behind it.

Usage: python bin/backfill.py DATASET FROM TO. Goes through the REST API: the command line of Airflow writes to
SQLite from a second process and is refused ("database is locked") about one time in three. RUNS in the environment
is how many days run at once; THIS_CODE=1 builds again what another version of the code built. AIRFLOW_URL and
AIRFLOW_ADMIN_PASSWORD name another Airflow than that of `make up`.
"""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.days import days_between
from schemas.errors import UserError, exit_with_one_line

ATTEMPTS = 5
POLL_S = 3
# Days run also where they succeeded before: the jobs know what is stale, Airflow does not.
REPROCESS = "completed"
# The nightly run of a day is queued seconds after its promotion has been audited, the report after its plan.
QUEUED_S = 120
# Airflow marks a backfill as complete up to half a minute after its last run has ended, and allows one at a time.
MARKED_S = 60
# A DAG that is switched on also begins with the latest day that is over: its run takes a minute or two.
THROUGH_S = 180
DONE = ("success", "failed")
ACTIVE = "state=queued&state=running"


STARTS_NIGHT = "audit_champion"  # the task that starts the nightly run
MOST_RUNS = 16


class Conflict(UserError):
    """Airflow refuses since it is at it already."""


class Airflow:
    """The REST API of the Airflow at `url`, as its user admin. Raises UserError where it does not answer."""

    def __init__(self, url: str, password: str):
        self.url, self.token = url.rstrip("/"), ""
        try:
            self.token = self.call("POST", "/auth/token", {"username": "admin", "password": password})["access_token"]
        except (ValueError, LookupError, TypeError) as error:  # a proxy's own page, say
            raise UserError(f"what answers at {self.url} is not Airflow") from error

    @classmethod
    def of_service(cls, home: Path) -> "Airflow":
        """That of `make up`, whose AIRFLOW_HOME is `home`. Raises UserError where it is not running."""
        try:
            url, passwords = (home / "url").read_text(), json.loads((home / "passwords.json").read_text())
        except FileNotFoundError:
            raise UserError("Airflow is not running: start it with make up") from None
        return cls(url, passwords["admin"])

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer as a dictionary; tried again where the database was locked (status 5xx).

        What changes nothing is also tried again where no answer comes: a backfill outlasts a restart of the API server.
        """
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
                if error.code == 409:
                    raise Conflict(_detail(error)) from error
                if error.code < 500 or attempt == ATTEMPTS:
                    raise UserError(f"Airflow refuses ({error.code}): {_detail(error)}") from error
                time.sleep(attempt)
            # No URLError where the connection breaks after the question was sent.
            except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
                if method == "POST" or attempt == ATTEMPTS:
                    raise UserError(f"Airflow does not answer at {self.url}: is it running?") from error
                time.sleep(attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _detail(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):  # not Airflow's own JSON
        return text[:300]


def backfill(airflow: Airflow, dataset: str, first: str, last: str, runs: int = 1, **conf: object) -> Counter[str]:
    """Run the daily DAG for each day, and see its nightly run and its report through; the number of days by outcome.

    runs: days at once. conf: parameters of the daily DAG. Days without rows count as "no rows".
    """
    days = days_between(first, last)
    dag, nightly, report = (f"mtorl_{kind}_{dataset}" for kind in ("daily", "nightly", "report"))
    # First of all: the schedule goes on behind the days asked for, else it would begin with yesterday.
    created = _create(airflow, dag, first, last, runs, conf)
    with unpaused(airflow, dag, nightly, report):
        print(f"backfill {created['id']} of {dag}, {first} to {last}; watch it at {airflow.url}/dags/{dag}", flush=True)
        done = _follow_days(airflow, dag, created, days)
        scored = [day for day in days if done.get(day, {}).get("night") == "success"]
        nights = _follow(airflow, nightly, created["created_at"], scored)
        reported = [day for day in scored if nights.get(day) == "success"]
        reports = _follow(airflow, report, created["created_at"], reported)
    outcomes = Counter(_outcome(done.get(day), nights.get(day)) for day in days)
    for name, days_asked, states in (("nightly", scored, nights), ("report", reported, reports)):
        for day in (d for d in days_asked if states.get(d) != "success"):
            print(f"  {day} {name} {states.get(day, 'not run')}", flush=True)
    return outcomes


@contextmanager
def unpaused(airflow: Airflow, *dags: str) -> Iterator[None]:
    """Switch the DAGs on, since a paused one keeps its backfill waiting; leave them as they were found.

    Runs that have begun in them meanwhile are waited for, for THROUGH_S. Where one takes longer, they stay on: a run of
    a paused DAG would stand still, and be in the way of the next one of its day.
    """
    paused = [dag for dag in dags if airflow.call("GET", f"/api/v2/dags/{dag}")["is_paused"]]
    for dag in paused:
        airflow.call("PATCH", f"/api/v2/dags/{dag}", {"is_paused": False})
    try:
        yield
    except BaseException:
        if paused:
            print(f"note: the backfill goes on in Airflow, so {', '.join(paused)} stay switched on", file=sys.stderr)
        raise
    until = time.monotonic() + THROUGH_S
    while (active := _active(airflow, paused)) and time.monotonic() < until:
        time.sleep(POLL_S)
    if active:
        named = ", ".join(f"{run['dag_id']} of {run['partition_key']}" for run in active)
        print(f"note: {', '.join(paused)} stay switched on: {named} began meanwhile, and is not through", flush=True)
        return
    for dag in paused:
        airflow.call("PATCH", f"/api/v2/dags/{dag}", {"is_paused": True})


def _active(airflow: Airflow, dags: list[str]) -> list[dict[str, Any]]:
    return [run for dag in dags for run in airflow.call("GET", f"/api/v2/dags/{dag}/dagRuns?{ACTIVE}")["dag_runs"]]


def _create(airflow: Airflow, dag: str, first: str, last: str, runs: int, conf: dict[str, object]) -> dict[str, Any]:
    body = {
        "dag_id": dag,
        "from_date": f"{first}T00:00:00Z",
        "to_date": f"{last}T00:00:00Z",
        "reprocess_behavior": REPROCESS,
        "max_active_runs": runs,
        "dag_run_conf": conf,
    }
    until = time.monotonic() + MARKED_S
    while True:
        try:
            return airflow.call("POST", "/api/v2/backfills", body)
        except Conflict as error:
            if time.monotonic() > until:
                raise UserError(
                    f"another backfill of {dag} is running: wait for it, or cancel it at {airflow.url}"
                ) from error
        time.sleep(POLL_S)


def _follow_days(airflow: Airflow, dag: str, created: dict[str, Any], days: list[str]) -> dict[str, dict[str, str]]:
    """Wait for the runs; of each day that ran the states of its `run` and of the task that starts its `night`."""
    done: dict[str, dict[str, str]] = {}
    while left := [day for day in days if day not in done]:
        time.sleep(POLL_S)
        for day, run in _runs(airflow, dag, "backfill", created["created_at"], left).items():
            if run["state"] in DONE:
                task = (
                    f"/api/v2/dags/{dag}/dagRuns/{urllib.parse.quote(run['dag_run_id'])}/taskInstances/{STARTS_NIGHT}"
                )
                done[day] = {"run": run["state"], "night": airflow.call("GET", task)["state"] or ""}
                print(f"  {day} {_outcome(done[day], 'success')}", flush=True)
        # Days that Airflow leaves out (one of its runs is active) would never come.
        if airflow.call("GET", f"/api/v2/backfills/{created['id']}")["completed_at"]:
            break
    return done


def _follow(airflow: Airflow, dag: str, since: str, days: list[str]) -> dict[str, str]:
    """Wait for the runs that the DAG before has started for these days; the state of each that was queued."""
    until = time.monotonic() + QUEUED_S
    states: dict[str, str] = {}
    while True:
        left = [day for day in days if states.get(day) not in DONE]
        states |= {day: run["state"] for day, run in _runs(airflow, dag, None, since, left).items()}
        running = [day for day, state in states.items() if state not in DONE]
        if not running and (len(states) == len(days) or time.monotonic() > until):
            return states
        if running:
            until = time.monotonic() + QUEUED_S
        time.sleep(POLL_S)


def _outcome(day: dict[str, str] | None, night: str | None) -> str:
    if day is None:
        return "not run"
    if day["run"] == "success" and day["night"] == "skipped":
        return "no rows"
    return "success" if day["run"] == night == "success" else "failed"


def _runs(airflow: Airflow, dag: str, kind: str | None, since: str, days: list[str]) -> dict[str, dict[str, Any]]:
    """The newest run of each day that was queued since then."""
    found: dict[str, dict[str, Any]] = {}
    for day in days:
        asked = {"partition_key_pattern": day, "order_by": "-id"} | ({"run_type": kind} if kind else {})
        for run in airflow.call("GET", f"/api/v2/dags/{dag}/dagRuns?{urllib.parse.urlencode(asked)}")["dag_runs"]:
            if run["partition_key"] == day and (run["queued_at"] or "") >= since:
                found.setdefault(day, run)
    return found


def main() -> None:
    dataset, first, last = sys.argv[1:]
    days_between(first, last)
    runs = os.environ.get("RUNS") or "1"
    if not runs.isdecimal() or not 1 <= int(runs) <= MOST_RUNS:
        raise UserError(f"RUNS is a number of days from 1 to {MOST_RUNS}, not '{runs}'")
    conf = {"this_code": True} if os.environ.get("THIS_CODE") == "1" else {}
    # Another Airflow than that of `make up`: of the compose file, say.
    if url := os.environ.get("AIRFLOW_URL"):
        if not url.startswith(("http://", "https://")):
            raise UserError(f"AIRFLOW_URL={url}: where Airflow answers, for example http://localhost:8080")
        if not (password := os.environ.get("AIRFLOW_ADMIN_PASSWORD")):
            raise UserError("AIRFLOW_URL is set: AIRFLOW_ADMIN_PASSWORD, its user admin's, must be, too")
        airflow = Airflow(url, password)
    else:
        airflow = Airflow.of_service(Path(os.environ["AIRFLOW_HOME"]))
    states = backfill(airflow, dataset, first, last, int(runs), **conf)
    bad = {state: count for state, count in states.items() if state not in ("success", "no rows")}
    if bad:
        left = ", ".join(f"{count} {state}" for state, count in sorted(bad.items()))
        raise UserError(f"of {states.total()} days {states['success']} succeeded, {left}: see Airflow's task logs")
    print(f"{states['success']} days done" + (f", {states['no rows']} without rows" if states["no rows"] else ""))


if __name__ == "__main__":
    exit_with_one_line(main)

"""Backfills the daily DAG of a dataset in a running Airflow, and waits for the nightly and report runs that follow.

Usage: python -m bin.embedded_airflow.backfill DATASET FROM TO. Environment:

    AIRFLOW_HOME                            the folder of the Airflow that `make up` has started
    AIRFLOW_URL, AIRFLOW_ADMIN_PASSWORD     another Airflow instead, for example that of docker/compose.yaml
    RUNS                                    days that run in parallel, by default 1
    THIS_CODE=1                             rebuild tables that another version of the code has built
    ACCEPT_FEW_ROWS=1                       the last day of the log is complete although it has few rows
    METHOD                                  the methods that learn the days, by default those of the dataset

It uses the REST API because Airflow's command line writes to SQLite from a second process, which fails with
"database is locked" about one time in three.
"""

import os
import sys
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bin.embedded_airflow.rest_api import Airflow, Conflict
from schemas.days import days_between
from schemas.errors import UserError, exit_with_one_line

POLL_S = 3
# Days that have succeeded run again: the jobs know what is stale, Airflow does not.
REPROCESS = "completed"
# A day's nightly run is queued seconds after the audit of its champion, its report after the audit of its budget plan.
QUEUE_LIMIT_S = 120
# Airflow marks a backfill as complete up to half a minute after its last run has ended, and allows one at a time.
COMPLETION_LIMIT_S = 60
# A DAG that is switched on also runs yesterday, which takes a minute or two.
OTHER_RUNS_LIMIT_S = 180
FINISHED = ("success", "failed")
UNFINISHED_QUERY = "state=queued&state=running"
STARTS_NIGHTLY_RUN = "audit_champion"  # the task of the daily DAG that triggers the nightly run
MOST_RUNS = 16


class DailyRun(NamedTuple):
    """The final states of a day's daily run and of its task STARTS_NIGHTLY_RUN ("" if Airflow has not set one)."""

    state: str
    champion_audit: str

    def outcome(self, nightly_state: str | None) -> str:
        """nightly_state: the state of the nightly run of this day, None if it was not queued."""
        if self.state == "success" and self.champion_audit == "skipped":
            return "no rows"
        return "success" if self.state == nightly_state == "success" else "failed"


def backfill(airflow: Airflow, dataset: str, first: str, last: str, runs: int = 1, **conf: object) -> Counter[str]:
    """Run the daily DAG for each day and wait for its nightly run and its report. Returns the days counted by outcome.

    Outcomes: success, failed, "no rows" (the log has no rows on this day), "not run".
    runs: days in parallel. conf: parameters of the daily DAG.
    """
    days = days_between(first, last)
    daily, nightly, report = (f"mtorl_{kind}_{dataset}" for kind in ("daily", "nightly", "report"))
    # Before the DAG is switched on: its schedule then continues after these days, and does not start with yesterday.
    created = _create(airflow, daily, first, last, runs, conf)
    with unpaused(airflow, daily, nightly, report):
        url = f"{airflow.url}/dags/{daily}"
        print(f"backfill {created['id']} of {daily}, {first} to {last}; watch it at {url}", flush=True)
        daily_runs = _wait_for_daily_runs(airflow, daily, created, days)
        scored_days = [day for day in days if day in daily_runs and daily_runs[day].champion_audit == "success"]
        nightly_states = _wait_for_triggered_runs(airflow, nightly, created["created_at"], scored_days)
        reported_days = [day for day in scored_days if nightly_states.get(day) == "success"]
        report_states = _wait_for_triggered_runs(airflow, report, created["created_at"], reported_days)
    _print_unsuccessful("nightly", scored_days, nightly_states)
    _print_unsuccessful("report", reported_days, report_states)
    return Counter(daily_runs[day].outcome(nightly_states.get(day)) if day in daily_runs else "not run" for day in days)


def _print_unsuccessful(kind: str, days: list[str], states: dict[str, str]) -> None:
    for day in days:
        if states.get(day) != "success":
            print(f"  {day} {kind} {states.get(day, 'not run')}", flush=True)


@contextmanager
def unpaused(airflow: Airflow, *dags: str) -> Iterator[None]:
    """Switch the DAGs on, since a paused DAG does not run its backfill. Afterwards pause those that were paused.

    Other runs of these DAGs may have begun, and a run of a paused DAG stops half-way and blocks the next run of its
    day. So wait for these runs up to OTHER_RUNS_LIMIT_S; if one takes longer, the DAGs stay switched on.
    """
    paused = [dag for dag in dags if airflow.call("GET", f"/api/v2/dags/{dag}")["is_paused"]]
    for dag in paused:
        airflow.call("PATCH", f"/api/v2/dags/{dag}", {"is_paused": False})
    try:
        yield
    except BaseException:
        if paused:
            print(f"note: the backfill continues in Airflow; {', '.join(paused)} stay switched on", file=sys.stderr)
        raise
    deadline = time.monotonic() + OTHER_RUNS_LIMIT_S
    while (unfinished := _unfinished_runs(airflow, paused)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if unfinished:
        runs = ", ".join(f"{run['dag_id']} of {run['partition_key']}" for run in unfinished)
        print(f"note: {', '.join(paused)} stay switched on because of a run that has not ended: {runs}", flush=True)
        return
    for dag in paused:
        airflow.call("PATCH", f"/api/v2/dags/{dag}", {"is_paused": True})


def _unfinished_runs(airflow: Airflow, dags: list[str]) -> list[dict[str, Any]]:
    return [
        run for dag in dags for run in airflow.call("GET", f"/api/v2/dags/{dag}/dagRuns?{UNFINISHED_QUERY}")["dag_runs"]
    ]


def _create(airflow: Airflow, dag: str, first: str, last: str, runs: int, conf: dict[str, object]) -> dict[str, Any]:
    body = {
        "dag_id": dag,
        "from_date": f"{first}T00:00:00Z",
        "to_date": f"{last}T23:00:00Z",  # in the dataset's zone; not every day begins a run at midnight
        "reprocess_behavior": REPROCESS,
        "max_active_runs": runs,
        "dag_run_conf": conf,
    }
    deadline = time.monotonic() + COMPLETION_LIMIT_S
    while True:
        try:
            return airflow.call("POST", "/api/v2/backfills", body)
        except Conflict as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"another backfill of {dag} is running: wait for it, or cancel it at {airflow.url}"
                ) from error
        time.sleep(POLL_S)


def _wait_for_daily_runs(airflow: Airflow, dag: str, created: dict[str, Any], days: list[str]) -> dict[str, DailyRun]:
    """Wait for the runs of the backfill. Returns the run of each day that had one."""
    finished: dict[str, DailyRun] = {}
    while missing := [day for day in days if day not in finished]:
        time.sleep(POLL_S)
        for day, run in newest_runs(airflow, dag, "backfill", created["created_at"], missing).items():
            if run["state"] in FINISHED:
                path = f"/api/v2/dags/{dag}/dagRuns/{urllib.parse.quote(run['dag_run_id'])}"
                task = airflow.call("GET", f"{path}/taskInstances/{STARTS_NIGHTLY_RUN}")
                finished[day] = DailyRun(run["state"], task["state"] or "")
                print(f"  {day} {finished[day].outcome('success')}", flush=True)
        # Airflow leaves out days of which another run is active; those would never come.
        if airflow.call("GET", f"/api/v2/backfills/{created['id']}")["completed_at"]:
            break
    return finished


def _wait_for_triggered_runs(airflow: Airflow, dag: str, created_at: str, days: list[str]) -> dict[str, str]:
    """Wait for the runs that the previous DAG has triggered. Returns the state of each day whose run was queued."""
    deadline = time.monotonic() + QUEUE_LIMIT_S
    states: dict[str, str] = {}
    while True:
        missing = [day for day in days if states.get(day) not in FINISHED]
        states |= {day: run["state"] for day, run in newest_runs(airflow, dag, None, created_at, missing).items()}
        unfinished = [day for day, state in states.items() if state not in FINISHED]
        if not unfinished and (len(states) == len(days) or time.monotonic() > deadline):
            return states
        if unfinished:
            deadline = time.monotonic() + QUEUE_LIMIT_S
        time.sleep(POLL_S)


def newest_runs(
    airflow: Airflow, dag: str, run_type: str | None, queued_after: str, days: list[str]
) -> dict[str, dict[str, Any]]:
    """The newest run of each day that was queued at `queued_after` or later; days without one are left out."""
    runs: dict[str, dict[str, Any]] = {}
    for day in days:
        query = {"partition_key_pattern": day, "order_by": "-id"} | ({"run_type": run_type} if run_type else {})
        for run in airflow.call("GET", f"/api/v2/dags/{dag}/dagRuns?{urllib.parse.urlencode(query)}")["dag_runs"]:
            if run["partition_key"] == day and (run["queued_at"] or "") >= queued_after:
                runs.setdefault(day, run)
    return runs


def airflow_of_environment() -> Airflow:
    """The Airflow that AIRFLOW_URL names, by default the Airflow that `make up` has started."""
    url = os.environ.get("AIRFLOW_URL")
    if not url:
        return Airflow.from_service(Path(os.environ["AIRFLOW_HOME"]))
    if not url.startswith(("http://", "https://")):
        raise UserError(f"AIRFLOW_URL={url} is not a URL: write, for example, http://localhost:8080")
    password = os.environ.get("AIRFLOW_ADMIN_PASSWORD")
    if not password:
        raise UserError("AIRFLOW_URL is set: set AIRFLOW_ADMIN_PASSWORD, the password of its user admin, as well")
    return Airflow(url, password)


def main() -> None:
    dataset, first, last = sys.argv[1:]
    days_between(first, last)
    runs = os.environ.get("RUNS") or "1"
    if not runs.isdecimal() or not 1 <= int(runs) <= MOST_RUNS:
        raise UserError(f"RUNS is a number of days from 1 to {MOST_RUNS}, not '{runs}'")
    switches = ("this_code", "accept_few_rows")
    conf: dict[str, object] = {switch: True for switch in switches if os.environ.get(switch.upper()) == "1"}
    if method := os.environ.get("METHOD"):
        conf["method"] = method
    outcomes = backfill(airflow_of_environment(), dataset, first, last, int(runs), **conf)
    bad = {outcome: count for outcome, count in outcomes.items() if outcome not in ("success", "no rows")}
    if bad:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(bad.items()))
        raise UserError(
            f"of {outcomes.total()} days {outcomes['success']} succeeded, {counts}: see the task logs in Airflow"
        )
    without_rows = f", {outcomes['no rows']} without rows" if outcomes["no rows"] else ""
    print(f"{outcomes['success']} days done{without_rows}")


if __name__ == "__main__":
    exit_with_one_line(main)

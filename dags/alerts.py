"""What people are told when a run fails, is late, or finds no rows: one readable line in a log, and a webhook.

The log is $MTORL_ALERTS, else alerts.log in Airflow's home. Where $MTORL_WEBHOOK holds an address, the same line is
posted to it as {"text": line}, which Slack, Mattermost and their like understand. Neither waits for the other: a full
disk stops no post, a webhook that does not answer no line.
"""

import json
import os
import re
import sys
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

_WEBHOOK_TIMEOUT_S = 10
_LONGEST = 400


def failed(context: Mapping[str, Any]) -> None:
    """A task has failed for good (its retries, if any, are used up)."""
    tell(f"FAILED {_where(context)}: {_reason(context.get('exception'))}")


def nothing_there(context: Mapping[str, Any]) -> None:
    """A task found nothing to do, and what stands behind it is left out."""
    tell(f"NO ROWS {_where(context)}: the log does not reach that day; the task's log says which days it has")


def late(context: Mapping[str, Any], hours: float) -> None:
    """A run is not done when it should be. Airflow's deadline alert calls this with a short context.

    Not told of a backfill: all its runs are queued when it is made, so that those of a long one would all be late at
    once, and whoever started it sees it through (bin/embedded_airflow/backfill.py).
    """
    run = context.get("dag_run") or {}
    if run.get("run_type") == "backfill":
        return
    day = run.get("partition_key") or run.get("dag_run_id") or run.get("run_id") or ""
    tell(f"LATE {run.get('dag_id', '')} {day}: not done {hours:g} hours after it was queued")


def tell(line: str) -> None:
    """Write the line, with the time; post it. A webhook that does not take it is a line of its own, no failure."""
    line = f"{_now()} {line}"
    _write(line)
    if address := os.environ.get("MTORL_WEBHOOK"):
        try:
            _post(address, line)
        except (OSError, HTTPException, ValueError) as error:  # ValueError: no address at all
            _write(f"{_now()} the webhook did not take the line above: {_kind(error)}")


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _post(address: str, line: str) -> None:
    body = json.dumps({"text": line}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_WEBHOOK_TIMEOUT_S):
        pass


def _kind(error: Exception) -> str:
    """What went wrong, never in the error's own words: they may quote the address, which often holds a secret."""
    if isinstance(error, HTTPError):
        return f"it answered with status {error.code}"
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    return type(cause).__name__


def _write(line: str) -> None:
    path = Path(os.environ.get("MTORL_ALERTS") or Path(os.environ.get("AIRFLOW_HOME", "~/airflow")) / "alerts.log")
    try:
        # One write of one line: lines of parallel tasks do not mix.
        with path.expanduser().open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(line + "\n")
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no such user's home
        print(f"{line} (not written to {path}: {type(error).__name__})", file=sys.stderr)


def _where(context: Mapping[str, Any]) -> str:
    task, run = context["ti"], context["dag_run"]
    day = getattr(run, "partition_key", None) or (context.get("params") or {}).get("date") or run.run_id
    return f"{task.dag_id} {day} {task.task_id}"


def _reason(exception: object) -> str:
    """The entry point's own `error: ...` line where there is one, else the first line."""
    text = str(exception or "").strip() or "no reason given; see the task's log"
    own = re.search(r"^error: .*$", text, re.MULTILINE)
    return (own[0] if own else text.splitlines()[0])[:_LONGEST]

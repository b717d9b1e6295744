"""Alerts for people: one readable line if a run fails, is late, finds no rows, or asks for something.

The line is appended to the file $MTORL_ALERTS, or to alerts.log in Airflow's home. If $MTORL_WEBHOOK is an address, the
same line is posted to it as {"text": line}, the format of Slack, Mattermost and similar services. The two ways are
independent: a full disk does not prevent the post, and a webhook that does not answer does not prevent the line.
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

from schemas.printable import printable_lines

_WEBHOOK_TIMEOUT_S = 10
_MAX_REASON_LENGTH = 400


def failed(context: Mapping[str, Any]) -> None:
    """Airflow's callback for a task that has failed and has no retries left."""
    send(f"FAILED {_where(context)}: {_reason(context.get('exception'))}")


def nothing_to_do(context: Mapping[str, Any]) -> None:
    """Airflow's callback for a task that found no rows and was skipped, together with the tasks after it."""
    send(f"NO ROWS {_where(context)}: the log does not reach that day; the task's log lists the days that it has")


def action_needed(context: Mapping[str, Any], line: str) -> None:
    """Send a line that a successful task has printed for people; see ALERT in schemas/errors.py."""
    send(f"ACTION NEEDED {_where(context)}: {line}")


def late(context: Mapping[str, Any], hours: float) -> None:
    """The callback of Airflow's deadline alert, for a run that is not done in time.

    A run of a backfill causes no alert: all runs of a backfill are queued when it is created, so most runs of a long
    one would be late. The person who started it watches it (bin/embedded_airflow/backfill.py).
    """
    run = context.get("dag_run") or {}
    if run.get("run_type") == "backfill":
        return
    day = run.get("partition_key") or run.get("dag_run_id") or run.get("run_id") or ""
    send(f"LATE {run.get('dag_id', '')} {day}: not done {hours:g} hours after it was queued")


def send(line: str) -> None:
    """Write the line with the time, and post it. If the webhook fails, a second line reports that.

    The line may quote values of a log, so control characters and line breaks are escaped.
    """
    line = f"{_now()} {printable_lines(' '.join(line.split()))}"
    _write(line)
    if address := os.environ.get("MTORL_WEBHOOK"):
        try:
            _post(address, line)
        except (OSError, HTTPException, ValueError) as error:  # ValueError: the address is malformed
            _write(f"{_now()} the webhook did not take the line above: {_kind(error)}")


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _post(address: str, line: str) -> None:
    body = json.dumps({"text": line}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_WEBHOOK_TIMEOUT_S):
        pass


def _kind(error: Exception) -> str:
    """The kind of the error. Its message is left out, because it may quote the address, which often has a secret."""
    if isinstance(error, HTTPError):
        return f"it answered with status {error.code}"
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    return type(cause).__name__


def _write(line: str) -> None:
    path = Path(os.environ.get("MTORL_ALERTS") or Path(os.environ.get("AIRFLOW_HOME", "~/airflow")) / "alerts.log")
    try:
        # Each line is a single write, so that the lines of parallel tasks do not mix.
        with path.expanduser().open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(line + "\n")
    except (OSError, RuntimeError) as error:  # RuntimeError: the user of ~user does not exist
        print(f"{line} (not written to {path}: {type(error).__name__})", file=sys.stderr)


def _where(context: Mapping[str, Any]) -> str:
    task, run = context["ti"], context["dag_run"]
    day = getattr(run, "partition_key", None) or (context.get("params") or {}).get("date") or run.run_id
    return f"{task.dag_id} {day} {task.task_id}"


def _reason(exception: object) -> str:
    """The `error: ...` line of the entry point if the message has one, else the first line of the message."""
    text = str(exception or "").strip() or "no reason given; see the task's log"
    error_line = re.search(r"^error: .*$", text, re.MULTILINE)
    return (error_line[0] if error_line else text.splitlines()[0])[:_MAX_REASON_LENGTH]

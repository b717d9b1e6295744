"""What people are told when a run fails, is late, or finds no rows: one readable line in a log, and a webhook.

The log is $MTORL_ALERTS, else alerts.log in Airflow's home. Where $MTORL_WEBHOOK holds an address, the same line is
posted to it as {"text": line}, which Slack, Mattermost and their like understand.
"""

import json
import os
import re
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_WEBHOOK_TIMEOUT_S = 10
_LONGEST = 400


def failed(context: Mapping[str, Any]) -> None:
    """A task has failed for good (its retries, if any, are used up)."""
    tell(f"FAILED {_where(context)}: {_reason(context.get('exception'))}")


def nothing_there(context: Mapping[str, Any]) -> None:
    """A task found nothing to do, and what stands behind it is left out."""
    tell(f"NO ROWS {_where(context)}: the log does not reach that day; the task's log says which days it has")


def late(context: Mapping[str, Any], hours: float) -> None:
    """A run is not done when it should be. Airflow's deadline alert calls this with a short context."""
    run = context.get("dag_run") or {}
    day = run.get("partition_key") or run.get("dag_run_id") or run.get("run_id") or ""
    tell(f"LATE {run.get('dag_id', '')} {day}: not done {hours:g} hours after it was queued")


def tell(line: str) -> None:
    """Write the line, with the time; post it. A webhook that does not answer is a line of its own, no failure."""
    line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}"
    _write(line)
    address = os.environ.get("MTORL_WEBHOOK")
    if not address:
        return
    try:
        request = urllib.request.Request(
            address, json.dumps({"text": line}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=_WEBHOOK_TIMEOUT_S):
            pass
    except (OSError, ValueError) as error:  # URLError is an OSError; ValueError: no address at all
        # Not the address: it often holds a secret.
        _write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} the webhook did not take the line above: {error}")


def _write(line: str) -> None:
    path = Path(os.environ.get("MTORL_ALERTS") or Path(os.environ.get("AIRFLOW_HOME", "~/airflow")) / "alerts.log")
    with path.expanduser().open("a") as log:  # one write of one line: lines of parallel tasks do not mix
        log.write(line + "\n")


def _where(context: Mapping[str, Any]) -> str:
    task, run = context["ti"], context["dag_run"]
    day = getattr(run, "partition_key", None) or (context.get("params") or {}).get("date") or run.run_id
    return f"{task.dag_id} {day} {task.task_id}"


def _reason(exception: object) -> str:
    """The entry point's own `error: ...` line where there is one, else the first line."""
    text = str(exception or "").strip() or "no reason given; see the task's log"
    own = re.search(r"^error: .*$", text, re.MULTILINE)
    return (own[0] if own else text.splitlines()[0])[:_LONGEST]

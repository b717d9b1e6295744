"""Starts and ends Airflow's four processes. Usage: python bin/service.py check | up | down; see service.sh.

A process belongs to the service if its environment holds the service's mark: that is so for tasks and their
children too, whatever process group or session they moved to, and for orphans. A pid file could name an
innocent process after a restart of the machine.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from schemas.errors import UserError, exit_with_one_line

# Scheduler and triggerer would serve their logs on all interfaces; the user interface reads the files instead.
COMPONENTS = (
    ("api-server",),
    ("scheduler", "--skip-serve-logs"),
    ("dag-processor",),
    ("triggerer", "--skip-serve-logs"),
)
MARK = "MTORL_SERVICE"
READY_S = 180
GRACE_S = 20


def members(home: Path) -> list[psutil.Process]:
    """The living processes of the service."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # ended meanwhile, or another user's
            continue
    return found


def check(home: Path) -> None:
    """Raise a UserError where the service runs already or its port is taken."""
    if members(home):
        raise UserError("Airflow is running already: make down ends it")
    port = int(os.environ["PORT"])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} of 127.0.0.1 cannot be used ({error}): choose another with PORT=") from error


def up(home: Path) -> None:
    passwords = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    if not passwords.exists():
        passwords.touch(0o600)
        passwords.write_text(json.dumps({"admin": secrets.token_urlsafe(24)}))
    url = os.environ["AIRFLOW__API__BASE_URL"]
    (home / "url").write_text(url)
    started = [_start(home, component) for component in COMPONENTS]
    try:
        _wait_until_healthy(home, url, started)
    except BaseException:
        down(home)
        raise
    print(f"Airflow: {url} (user admin, password in {passwords})")


def _start(home: Path, component: tuple[str, ...]) -> subprocess.Popen:
    with (home / f"{component[0]}.log").open("wb") as log:
        return subprocess.Popen(
            ["airflow", *component],
            # Airflow renames its processes; SPT_NOENV keeps that from overwriting the environment, and so the mark.
            env={**os.environ, MARK: str(home), "SPT_NOENV": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives the terminal
        )


def _wait_until_healthy(home: Path, url: str, started: list[subprocess.Popen]) -> None:
    waits_for = "an answer"
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        for component, process in zip(COMPONENTS, started, strict=True):
            if process.poll() is not None:
                raise UserError(f"Airflow's {component[0]} does not start: see {home / component[0]}.log")
        try:
            with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:
                health = json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):  # not listening yet
            time.sleep(0.5)
            continue
        parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        sick = [part for part in parts if health[part]["status"] != "healthy"]
        if not sick:
            return
        waits_for = ", ".join(sick)
        time.sleep(0.5)
    raise UserError(f"Airflow is not healthy after {READY_S} s (waiting for {waits_for}): see the logs in {home}")


def down(home: Path) -> None:
    """End the service, gently first, and see that nothing is left."""
    running = members(home)
    if not running:
        print("Airflow is not running")
        return
    for process in running:
        _signal(process, signal.SIGTERM)
    end = time.monotonic() + GRACE_S
    while members(home) and time.monotonic() < end:
        time.sleep(0.3)
    while (left := members(home)) and time.monotonic() < end + GRACE_S:
        for process in left:
            _signal(process, signal.SIGKILL)
        time.sleep(0.3)
    if left := members(home):
        raise UserError(f"these processes of Airflow do not end: {', '.join(str(p.pid) for p in left)}")
    print("Airflow has ended")


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:  # ended by itself
        return


if __name__ == "__main__":
    command = {"check": check, "up": up, "down": down}[sys.argv[1]]
    exit_with_one_line(lambda: command(Path(os.environ["AIRFLOW_HOME"])))

"""Starts and stops Airflow's four processes: python -m bin.embedded_airflow.service check | up | down (service.sh).

A process belongs to the service if its environment holds the service's mark. That is true for tasks and their children
as well, whatever process group or session they moved to, and for orphans. A pid file could name an unrelated process
after a restart of the machine.
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
HEALTH_PARTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
MARK = "MTORL_SERVICE"
READY_LIMIT_S = 180
GRACE_S = 20


def service_processes(home: Path) -> list[psutil.Process]:
    """The living processes of the service."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended, or belongs to another user
            continue
    return processes


def check(home: Path) -> None:
    """Raise a UserError if the service is already running or its port is in use."""
    if service_processes(home):
        raise UserError("Airflow is already running: stop it with make down")
    port = int(os.environ["PORT"])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} of 127.0.0.1 cannot be used ({error}): choose another with PORT=") from error


def up(home: Path) -> None:
    """Start the service, and return when all its parts are healthy."""
    passwords = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    if not passwords.exists():
        _write_private(passwords, json.dumps({"admin": secrets.token_urlsafe(24)}))
    url = os.environ["AIRFLOW__API__BASE_URL"]
    (home / "url").write_text(url)
    environment = {
        **os.environ,
        "AIRFLOW__API_AUTH__JWT_SECRET": _secret(home / "jwt.secret"),
        "AIRFLOW__API__SECRET_KEY": _secret(home / "api.secret"),
        MARK: str(home),
        "SPT_NOENV": "1",  # else Airflow, which renames its processes, overwrites the environment and so the mark
    }
    processes = [_start(home, component, environment) for component in COMPONENTS]
    try:
        _wait_until_healthy(home, url, processes)
    except BaseException:
        down(home)
        raise
    print(f"Airflow: {url} (user admin, password in {passwords})")


def _secret(file: Path) -> str:
    """The secret in this file, which is made at the first start of the service."""
    if not file.exists() or file.stat().st_size == 0:
        _write_private(file, secrets.token_urlsafe(64))
    return file.read_text().strip()


def _write_private(file: Path, text: str) -> None:
    """Write a whole file that only this user may read."""
    staged = file.with_name(f".{file.name}.new")
    staged.touch(0o600)
    staged.write_text(text)
    staged.replace(file)


def _start(home: Path, component: tuple[str, ...], environment: dict[str, str]) -> subprocess.Popen:
    with (home / f"{component[0]}.log").open("wb") as log:
        return subprocess.Popen(
            ["airflow", *component],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives the terminal
        )


def _wait_until_healthy(home: Path, url: str, processes: list[subprocess.Popen]) -> None:
    missing = "an answer"
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        for component, process in zip(COMPONENTS, processes, strict=True):
            if process.poll() is not None:
                raise UserError(f"Airflow's {component[0]} does not start: see {home / component[0]}.log")
        try:
            with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as response:
                health = json.load(response)
        except (urllib.error.URLError, ConnectionError, TimeoutError):  # not listening yet
            time.sleep(0.5)
            continue
        unhealthy = [part for part in HEALTH_PARTS if health[part]["status"] != "healthy"]
        if not unhealthy:
            return
        missing = ", ".join(unhealthy)
        time.sleep(0.5)
    raise UserError(
        f"Airflow is not healthy after {READY_LIMIT_S} s (still waiting for {missing}): see the logs in {home}"
    )


def down(home: Path) -> None:
    """Stop all processes of the service: first SIGTERM, after GRACE_S seconds SIGKILL."""
    processes = service_processes(home)
    if not processes:
        print("Airflow is not running")
        return
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while service_processes(home) and time.monotonic() < deadline:
        time.sleep(0.3)
    while (remaining := service_processes(home)) and time.monotonic() < deadline + GRACE_S:
        for process in remaining:
            _signal(process, signal.SIGKILL)
        time.sleep(0.3)
    if remaining := service_processes(home):
        raise UserError(f"these processes of Airflow do not end: {', '.join(str(p.pid) for p in remaining)}")
    print("Airflow has stopped")


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:  # it has ended by itself
        return


if __name__ == "__main__":
    command = {"check": check, "up": up, "down": down}[sys.argv[1]]
    exit_with_one_line(lambda: command(Path(os.environ["AIRFLOW_HOME"])))

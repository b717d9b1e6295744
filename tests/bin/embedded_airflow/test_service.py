"""make up, make backfill and make down with a real Airflow, in a copy of the project with stubs for its jobs."""

import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from checkout import Checkout, make_checkout

from bin.embedded_airflow.rest_api import Airflow

pytestmark = [pytest.mark.airflow, pytest.mark.slow(50)]
# Runs a job's stub without Java. Real Spark tasks run in test_dag_operators.py, test_cluster.py and test_makefile.py.
SPARK_SUBMIT = """#!/bin/bash
until [[ "$1" == */jobs/*.py ]]; do shift; done
exec python "$@"
"""
DAGS = [f"mtorl_{kind}_kuairand" for kind in ("daily", "nightly", "report")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """The service of a checkout. hold_file: while it exists, build_tables does not end. skip_file: while it exists,
    no day has rows, so that a run of a day ends after its first task.
    """

    def __init__(self, checkout: Checkout):
        self.checkout = checkout
        self.home = checkout.root / ".airflow" / "service"
        self.hold_file = checkout.root / "hold"
        self.skip_file = checkout.root / "skip"
        self.log = checkout.root / "log"
        self.log.mkdir()
        self.port = free_port()
        self.output = ""
        self.programs = checkout.root / "programs"
        self.programs.mkdir()
        (self.programs / "spark3-submit").write_text(SPARK_SUBMIT)
        (self.programs / "spark3-submit").chmod(0o700)

    def up(self, **environment: str) -> None:
        settings = {
            # Notice soon that a task has ended or was killed.
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.4",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            # No DAG changes. Reading them again takes seconds.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "AIRFLOW_CONN_SPARK": json.dumps(
                {"conn_type": "spark", "host": "local[2]", "extra": {"spark-binary": "spark3-submit"}}
            ),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "HOLD_build_tables": str(self.hold_file),
            "SKIP_build_tables": str(self.skip_file),
        }
        done = self.checkout.make("up", f"PORT={self.port}", f"RAW={self.log}", **settings, **environment)
        assert done.returncode == 0, done.stderr
        self.output = done.stdout + done.stderr

    def down(self) -> None:
        done = self.checkout.make("down")
        assert done.returncode == 0, done.stderr

    def processes(self) -> list[psutil.Process]:
        return processes_of(self.home)

    def airflow(self) -> Airflow:
        return Airflow.from_service(self.home)

    def secret(self, name: str) -> str:
        return (self.home / name).read_text().strip()


def processes_of(home: Path) -> list[psutil.Process]:
    """All living processes that were started for the service in this folder."""
    processes = []
    for process in psutil.process_iter():
        try:
            if str(home) in process.environ().values() and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return processes


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that is started once for all tests; the last test has stopped it."""
    service = Service(make_checkout(tmp_path_factory.mktemp("service")))
    try:
        # Ten seconds after it was queued, a run is late.
        service.up(MTORL_DEADLINE_HOURS="0.003")
        yield service
    finally:
        service.checkout.make("down")


@pytest.fixture
def service(started: Service) -> Service:
    """The running service. If an earlier test has stopped it, it is started again."""
    if not started.processes():
        started.up()
    started.checkout.forget_calls()
    return started


def test_it_listens_on_this_machine_only(service):
    connections = [connection for process in service.processes() for connection in process.net_connections()]
    listening = {tuple(c.laddr) for c in connections if c.status == psutil.CONN_LISTEN}
    assert ("127.0.0.1", service.port) in listening
    assert {address for address, _ in listening} == {"127.0.0.1"}


def test_secrets_are_readable_by_their_owner_alone_and_not_on_the_screen(service):
    for file in ("passwords.json", "jwt.secret", "api.secret"):
        assert stat.S_IMODE((service.home / file).stat().st_mode) == 0o600
        assert service.secret(file) not in service.output
    assert json.loads(service.secret("passwords.json"))["admin"] not in service.output
    assert stat.S_IMODE(service.home.stat().st_mode) == 0o700
    assert len(service.secret("jwt.secret")) >= 64
    assert service.secret("jwt.secret") != service.secret("api.secret")
    # Airflow would invent secrets that it is not given.
    for process in service.processes():
        assert process.environ()["AIRFLOW__API_AUTH__JWT_SECRET"] == service.secret("jwt.secret")
        assert process.environ()["AIRFLOW__API__SECRET_KEY"] == service.secret("api.secret")


def test_a_second_start_is_refused(service):
    second_start = service.checkout.make("up", f"PORT={service.port}")
    assert second_start.returncode != 0
    assert "already running" in second_start.stderr


def test_a_backfill_takes_days_through_the_daily_the_nightly_and_the_report_dag(service):
    days = ["2022-04-08", "2022-04-09"]
    methods = "rmtl,unified_rl"
    done = service.checkout.make(
        "backfill", f"FROM={days[0]}", f"TO={days[1]}", "RUNS=2", f"METHOD={methods}", timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert "2 days done" in done.stdout
    for job in ("build_tables", "learn", "score", "measure_drift"):
        # A DAG that is switched on also runs for yesterday; the log does not reach it, and the run ends there.
        days_of_job = days_of(job, service.checkout.calls())
        assert sorted(day for day in days_of_job if day < "2023") == days
        assert job == "build_tables" or set(days_of_job) == set(days)
    learned = [call.split() for call in service.checkout.calls() if call.startswith("learn ")]
    assert {words[words.index("--method") + 1] for words in learned} == {methods}  # no other method learns these days
    airflow = service.airflow()
    # Switched on for the backfill only.
    assert all(airflow.call("GET", f"/api/v2/dags/{dag}")["is_paused"] for dag in DAGS)
    assert airflow.call("GET", "/api/v2/pools/gpu")["slots"] == 1


def test_a_backfill_without_days_runs_the_first_day_and_then_what_is_stale_oldest_first(service):
    service.skip_file.touch()  # the order of the days is that of their first tasks
    try:
        done = service.checkout.make("backfill", timeout=400)
    finally:
        service.skip_file.unlink()
    assert done.returncode == 0, done.stderr
    assert "0 days done, 1 without rows" in done.stdout
    assert "0 days done, 2 without rows" in done.stdout
    assert [day for day in days_of("build_tables", service.checkout.calls()) if day < "2023"] == [
        "2022-04-08", "2022-04-09", "2022-04-10",
    ]  # fmt: skip


def days_of(entry_point: str, calls: list[str]) -> list[str]:
    """The day of each call of an entry point."""
    flag = "--up-to" if entry_point == "build_tables" else "--day"
    commands = [call.split() for call in calls]
    return [words[words.index(flag) + 1] for words in commands if words[0] == entry_point]


def test_the_next_start_finishes_a_day_whose_scheduler_and_task_were_killed(service):
    day = "2022-04-07"
    service.hold_file.touch()
    airflow = service.airflow()
    for dag in DAGS:
        airflow.call("PATCH", f"/api/v2/dags/{dag}", {"is_paused": False})
    # Started by hand, because there are no alerts for late runs of a backfill.
    airflow.call("POST", f"/api/v2/dags/{DAGS[0]}/dagRuns", {"logical_date": None, "partition_key": day})
    wait_for(lambda: any(call.startswith("build_tables ") for call in service.checkout.calls()), 200)
    # A run that takes longer than its deadline raises an alert, and continues.
    alerts = service.home / "alerts.log"
    late = f"LATE mtorl_daily_kuairand {day}: not done 0.003 hours after it was queued"
    wait_for(lambda: alerts.exists() and late in alerts.read_text(), 120)

    (scheduler,) = [process for process in service.processes() if {"airflow", "scheduler"} <= words(process)]
    for process in [scheduler, *scheduler.children(recursive=True)]:
        process.kill()
    service.hold_file.unlink()
    service.down()
    service.up()
    airflow = service.airflow()
    for dag in DAGS:
        runs = f"/api/v2/dags/{dag}/dagRuns?partition_key_pattern={day}"
        wait_for(lambda runs=runs: [r["state"] for r in airflow.call("GET", runs)["dag_runs"]] == ["success"], 400)
    entry_points = [call.split()[0] for call in service.checkout.calls() if day in call]
    assert entry_points.count("build_tables") == 2
    assert entry_points.count("audit_table") >= entry_points.count("learn") == entry_points.count("score") == 1


def words(process: psutil.Process) -> set[str]:
    """The names of the first words of its command line."""
    return {Path(word).name for word in process.cmdline()[:3]}


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for(is_done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < deadline, f"not done after {seconds} s"
        time.sleep(1)


def test_down_leaves_no_process_behind(service):
    processes = service.processes()
    assert processes
    service.down()
    assert service.processes() == []
    wait_for(lambda: all(has_ended(process) for process in processes), 5)


def test_a_port_in_use_is_refused_with_one_line(tmp_path):
    checkout = make_checkout(tmp_path)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = checkout.make("up", f"PORT={listener.getsockname()[1]}")
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "PORT=" in line
    assert processes_of(tmp_path / ".airflow" / "service") == []

"""make up and make down, for real: what listens, who may read the secrets, what is left."""

import json
import socket
import stat
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from checkout import ROOT, Checkout, make_checkout

sys.path.insert(0, str(ROOT / "bin"))
import backfill as backfilling

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


@pytest.fixture
def checkout(tmp_path: Path):
    made = make_checkout(tmp_path)
    yield made
    made.make("down")


def service_processes(checkout: Checkout) -> list[psutil.Process]:
    """All processes started from the checkout's service, found by its folder alone."""
    home = str(checkout.root / ".airflow" / "service")
    found = []
    for process in psutil.process_iter():
        try:
            if home in process.environ().values() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_airflow_listens_on_this_machine_only_and_leaves_nothing_behind(checkout):
    port = free_port()
    (checkout.root / "log").mkdir()
    started = checkout.make("up", f"PORT={port}", "RAW=log")
    assert started.returncode == 0, started.stderr
    home = checkout.root / ".airflow" / "service"

    running = service_processes(checkout)
    listening = [c for p in running for c in p.net_connections() if c.status == psutil.CONN_LISTEN]
    assert (("127.0.0.1", port)) in {tuple(c.laddr) for c in listening}
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}

    password = json.loads((home / "passwords.json").read_text())["admin"]
    for secret in ("passwords.json", "jwt.secret", "api.secret"):
        assert stat.S_IMODE((home / secret).stat().st_mode) == 0o600
        assert (home / secret).read_text().strip() not in started.stdout + started.stderr
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert password not in started.stdout + started.stderr
    assert len((home / "jwt.secret").read_text()) >= 64

    again = checkout.make("up", f"PORT={port}")
    assert again.returncode != 0
    assert "running already" in again.stderr

    backfill(checkout)

    stopped = checkout.make("down")
    assert stopped.returncode == 0, stopped.stderr
    assert service_processes(checkout) == []
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in running)


def backfill(checkout: Checkout) -> None:
    """Two days go through the daily DAG, and each through its nightly run; pool `gpu` has one slot."""
    done = checkout.make("backfill", "FROM=2022-04-08", "TO=2022-04-09", "RUNS=2", timeout=400)
    assert done.returncode == 0, done.stderr
    assert "2 days done" in done.stdout
    days = ["2022-04-08", "2022-04-09"]
    for job in (
        "build_exposures",
        "build_day",
        "learn",
        "score",
        "measure_drift",
    ):
        # A DAG that is switched on also runs for yesterday; the log does not reach it, and the run ends there.
        found = days_of(job, checkout.calls())
        assert sorted(day for day in found if day < "2023") == days
        assert job == "build_exposures" or set(found) == set(days)
    # Switched on for the backfill only.
    for name in ("mtorl_daily_kuairand", "mtorl_nightly_kuairand", "mtorl_report_kuairand"):
        assert api(checkout, f"/api/v2/dags/{name}")["is_paused"]

    # Without days: the first one's run takes note of the raw rows, then what hangs on them, oldest first.
    checkout.forget_calls()
    done = checkout.make("backfill", timeout=400)
    assert done.returncode == 0, done.stderr
    assert [day for day in days_of("build_exposures", checkout.calls()) if day < "2023"] == [
        "2022-04-08", "2022-04-09", "2022-04-10",
    ]  # fmt: skip
    pool = api(checkout, "/api/v2/pools/gpu")
    assert pool["slots"] == 1


def days_of(entry_point: str, calls: list[str]) -> list[str]:
    """The day of each call of an entry point."""
    flags = {"build_exposures": "--up-to"}
    called = [call.split() for call in calls]
    flag = flags.get(entry_point, "--day")
    return [words[words.index(flag) + 1] for words in called if words[0] == entry_point]


def api(checkout: Checkout, path: str):
    home = checkout.root / ".airflow" / "service"
    url = (home / "url").read_text()
    password = json.loads((home / "passwords.json").read_text())["admin"]
    login = json.dumps({"username": "admin", "password": password}).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/auth/token", login, headers)) as answer:
        headers["Authorization"] = f"Bearer {json.load(answer)['access_token']}"
    with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers)) as answer:
        return json.load(answer)


def test_the_next_start_finishes_a_day_whose_scheduler_and_task_were_killed(checkout):
    (checkout.root / "log").mkdir()
    hold = checkout.root / "hold"
    hold.touch()
    service = {"PORT": str(free_port()), "RAW": "log", "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20"}
    up = checkout.make("up", **service, HOLD_build_day=str(hold), MTORL_DEADLINE_HOURS="0.003")
    assert up.returncode == 0, up.stderr
    # By hand, since of a backfill's runs nobody is told that they are late.
    airflow = backfilling.Airflow.of_service(checkout.root / ".airflow" / "service")
    dags = [f"/api/v2/dags/mtorl_{name}_kuairand" for name in ("daily", "nightly", "report")]
    for dag in dags:
        airflow.call("PATCH", dag, {"is_paused": False})
    airflow.call("POST", f"{dags[0]}/dagRuns", {"logical_date": None, "partition_key": "2022-04-08"})
    wait_for(lambda: any(call.startswith("build_day ") for call in checkout.calls()), 200)
    # A run that takes longer than its deadline is told of, and goes on.
    alerts = checkout.root / ".airflow" / "service" / "alerts.log"
    late = "LATE mtorl_daily_kuairand 2022-04-08: not done 0.003 hours after it was queued"
    wait_for(lambda: alerts.exists() and late in alerts.read_text(), 120)

    (scheduler,) = [p for p in service_processes(checkout) if {"airflow", "scheduler"} <= names(p)]
    for process in [scheduler, *scheduler.children(recursive=True)]:
        process.kill()
    hold.unlink()
    assert checkout.make("down").returncode == 0
    up = checkout.make("up", **service)
    assert up.returncode == 0, up.stderr
    for dag in dags:
        run = f"{dag}/dagRuns?partition_key_pattern=2022-04-08"
        wait_for(lambda run=run: [r["state"] for r in api(checkout, run)["dag_runs"]] == ["success"], 400)
    done = [call.split()[0] for call in checkout.calls() if "2022-04-08" in call]
    assert done.count("build_day") == 2
    assert done.count("build_exposures") == done.count("learn") == done.count("score") == 1


def names(process: psutil.Process) -> set[str]:
    return {Path(word).name for word in process.cmdline()[:3]}


def wait_for(done: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(1)


def test_a_port_in_use_is_refused_with_one_line(checkout):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = checkout.make("up", f"PORT={taken.getsockname()[1]}")
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "PORT=" in line
    assert service_processes(checkout) == []

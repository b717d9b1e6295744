"""A real log backfilled through a real Airflow in four orders: the same fingerprints; and a day that costs the same.

Takes an hour or two, so it runs by `make orders` alone. ORDERS_DAYS in the environment takes only the first days of
the log, ORDERS_DATASET another sample. The times are printed; they mean something on a machine that does nothing else.

The learned models depend on the order of days, as they should (docs/daily.md): a day that the champion has seen trains
nothing. So the orders are compared with a champion that has seen all days, and the learning is timed by itself.
"""

import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from checkout import ROOT
from lakes import contents

from bin.embedded_airflow import backfill as backfills
from bin.embedded_airflow.rest_api import Airflow
from lakehouse.lake import Lake
from lakehouse.models.decisions import DECISIONS
from schemas.days import days_between
from schemas.tables import BUDGET_PLAN
from schemas.tables.registry import CHAMPION_TABLES, SCORE_TABLES, TABLES, TABLES_FROM_HISTORY, TABLES_FROM_RAW

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.spark,
    pytest.mark.slow,
    pytest.mark.skipif("ORDERS" not in os.environ, reason="takes an hour: make orders"),
]
DATASET = os.environ.get("ORDERS_DATASET", "kuairand")
SAMPLES = {"kuairand": "KuaiRand-Pure/data", "criteo": "criteo"}
RAW = ROOT.parent / "shared" / "data" / SAMPLES[DATASET]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with a separate Airflow."""
    if not RAW.is_dir():
        pytest.skip(f"no real sample next to the checkout (looked in {RAW})")
    root = tmp_path_factory.mktemp("project")
    for folder in ("bin", "dags", "schemas", "lakehouse", "features", "jobs", "mtorl_model"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / file, root / file)
    (root / ".venv").symlink_to(Path(sys.prefix))
    yield root
    run(root, "make", "down")


def run(root: Path, *command: str, **environment: str) -> str:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "MAKE", "ORDERS"))}
    done = subprocess.run(command, cwd=root, env=inherited | environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def days(project) -> list[str]:
    output = run(project, sys.executable, "-m", "jobs.log_days", "--dataset", DATASET, "--raw", str(RAW))
    days = days_between(*output.split())
    return days[: int(os.environ.get("ORDERS_DAYS", len(days)))]


def trained(project: Path, lake: Path, days: list[str]) -> Lake:
    """A lake in which one was trained, for one epoch, on these days."""
    flags, span = ("--dataset", DATASET, "--lake", str(lake)), ("--from", days[0], "--to", days[-1])

    def step(module: str, *arguments: str) -> None:
        run(project, sys.executable, "-m", module, *flags, *arguments, SPARK_LOCAL_IP="127.0.0.1")

    step("jobs.build_exposures", "--raw", str(RAW), *span)
    step("jobs.build_sequences", *span)
    step("jobs.build_feature_spec", *span)
    step("mtorl_model.train", *span, "--max-epochs", "1", "--members", "1")
    return Lake(lake)


Backfill = Callable[[Airflow, list[str]], None]


def in_one(runs: int) -> Backfill:
    def backfill(airflow: Airflow, days: list[str]) -> None:
        assert backfills.backfill(airflow, DATASET, days[0], days[-1], runs)["success"] == len(days)

    return backfill


def one_by_one(order: Callable[[list[str]], list[str]]) -> Backfill:
    def backfill(airflow: Airflow, days: list[str]) -> None:
        for day in order(days):
            assert backfills.backfill(airflow, DATASET, day, day)["success"] == 1

    return backfill


ORDERS: dict[str, Backfill] = {
    "forwards": in_one(1),
    "backwards": one_by_one(lambda days: days[::-1]),
    "shuffled": one_by_one(lambda days: random.Random(1).sample(days, len(days))),
    "four at once": in_one(4),
}


def run_through_airflow(project: Path, name: str, lake: Lake, days: list[str], backfill: Backfill) -> None:
    """Backfill these days in a separate Airflow, and print the time of a day."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run(project, "make", "up", f"DATASET={DATASET}", f"RAW={RAW}", f"LAKE={lake.root}", f"PORT={port}")
    airflow = Airflow.from_service(project / ".airflow" / "service")
    started_at = datetime.now().astimezone().isoformat()
    backfill(airflow, days)
    seconds, elapsed = seconds_a_day(airflow, started_at, days)
    run(project, "make", "down")
    third = max(len(days) // 3, 1)
    ratio = statistics.mean(seconds[-third:]) / statistics.mean(seconds[:third])
    print(f"{name}: {statistics.median(seconds):.0f} s a day (median; {min(seconds):.0f} to {max(seconds):.0f}), "
          f"last third over first third {ratio:.2f}; all {len(days)} in {elapsed:.0f} s, "
          f"{elapsed / len(days):.0f} s a day")  # fmt: skip


def test_days_that_are_learned_cost_the_same(project, days):
    first = days[: max(len(days) // 3, 2)]
    lake = Lake(project / "learning")
    trained(project, lake.root, first)
    # As on a schedule: nothing else runs during a day.
    # In a backfill of several days, its night and the next day run at the same time.
    run_through_airflow(project, "learning", lake, days[len(first) :], one_by_one(lambda days: days))
    for day in days[len(first) :]:
        assert lake["prequential", DATASET, day].manifest.rows > 0
        assert lake["promotions", DATASET, day].manifest.rows > 0


def test_any_order_ends_with_the_same_lake(project, days):
    champion = trained(project, project / "first", days)
    lake_contents = {}
    for name, backfill in ORDERS.items():
        lake = Lake(project / name.replace(" ", "_"))
        for folder in (champion.root / "mlflow", champion.table(DECISIONS, DATASET)):
            shutil.copytree(folder, lake.root / folder.relative_to(champion.root))
        run_through_airflow(project, name, lake, days, backfill)
        lake_contents[name] = contents(lake)
    for name, lake_content in lake_contents.items():
        assert lake_content == lake_contents["forwards"], name
    # The one more is the quarantine of the undated rows.
    tables = {*TABLES_FROM_RAW, *TABLES_FROM_HISTORY, *CHAMPION_TABLES, *SCORE_TABLES, BUDGET_PLAN}
    daily = {table for table in tables if not TABLES[table].optional}
    assert {path.split("/")[1] for path in lake_contents["forwards"]} == daily
    assert len(lake_contents["forwards"]) == len(daily) * len(days) + 1


def seconds_a_day(airflow: Airflow, started_at: str, days: list[str]) -> tuple[list[float], float]:
    """How long each day took through both DAGs, and all of them from the first start to the last end."""
    total, starts, ends = dict.fromkeys(days, 0.0), [], []
    for dag in ("daily", "nightly"):
        for day, run_of_day in backfills.newest_runs(airflow, f"mtorl_{dag}_{DATASET}", None, started_at, days).items():
            began, ended = (datetime.fromisoformat(run_of_day[f"{moment}_date"]) for moment in ("start", "end"))
            total[day] += (ended - began).total_seconds()
            starts.append(began)
            ends.append(ended)
    return [total[day] for day in days], (max(ends) - min(starts)).total_seconds()

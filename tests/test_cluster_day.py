"""A history, a day and a night on a whole cluster that shares only a bucket.

The services of docker/compose.yaml run as processes of this machine (cluster.py), with their own commands, settings
and health checks, and without seeing each other's files. A Spark executor, both Celery workers and the S3 store are
killed in the middle. The resulting lake is compared with the embedded run of the same log, on a disk. `make
cluster-test` runs it; RAW= names a real log, DATASET= its dataset.
"""

import ipaddress
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from cluster import MARK, Cluster, Container, end, kill, may_unshare, members
from compose_file import ROOT, read_env_file
from lakes import contents

from bin.embedded_airflow.backfill import FINISHED
from bin.embedded_airflow.rest_api import Airflow
from lakehouse.lake import Lake
from lakehouse.models.versions import DEFAULT_METHOD
from lakehouse.storage.store_path import path_of
from mtorl_model.champion.model_files import model_folder
from mtorl_model.champion.registry import Registry
from mtorl_model.training.checksums import CHECKSUMS
from schemas.dataset import get_dataset
from schemas.days import day_before
from schemas.tables import EXPOSURES

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.skipif("CLUSTER_HOME" not in os.environ, reason="takes minutes: make cluster-test"),
]
DATASET = os.environ.get("DATASET", "kuairand")
# One small model with little training. The models of both lakes must be equal; they need not be good.
TRAINING = {"members": 1, "max_epochs": 5}
# The jobs take seconds, so Java and Spark compile little. Many processes run, so each has one thread. Spark takes
# executors with one address for executors of one machine, which read each other's files.
SMALL = {
    "SPARK_SUBMIT_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
    " -Dspark.shuffle.readHostLocalDisk=false -Dspark.executor.extraJavaOptions=-XX:TieredStopAtLevel=1",
    "MTORL_DRIVER_MEMORY": "1g",
    "OMP_NUM_THREADS": "1",
}
TABLES = {
    "exposures", "quarantine", "journeys", "item_history", "feature_spec", "steps", "sequences", "prequential",
    "promotions", "channel_policies", "user_reward_ranks", "channel_allocation", "budget_plan",
}  # fmt: skip
RUN_S = 900


def run(*command: str, **environment: str) -> str:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "MAKE", "MFLAGS"))}
    inherited[MARK] = f"{os.environ['CLUSTER_HOME']}/here"  # the end of the cluster ends it
    done = subprocess.run(
        command, cwd=ROOT, env=inherited | environment, text=True, capture_output=True, timeout=RUN_S, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def home() -> Path:
    return Path(os.environ["CLUSTER_HOME"])


@pytest.fixture(scope="module")
def raw(home) -> Path:
    """The folder of the raw log: RAW, or a small log that is generated here."""
    folder = home / "raw" / DATASET
    folder.parent.mkdir(exist_ok=True)
    if not folder.exists():
        if os.environ.get("RAW"):
            folder.symlink_to(Path(os.environ["RAW"]).resolve())
        else:
            run(sys.executable, "-m", "jobs.generate_log", "--layout", DATASET, "--out", str(folder),
                "--users", "150", "--days", "3", "--seed", "1")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def days(raw) -> tuple[str, str]:
    """First and last day of the log. The history ends on the day before the last; the last is the daily run's day."""
    first, last = run(
        sys.executable, "-m", "jobs.log_days", "--dataset", DATASET, "--raw", str(raw), SPARK_LOCAL_IP="127.0.0.1"
    ).split()[-2:]
    return first, last


@pytest.fixture(scope="module")
def embedded(home, raw, days) -> Lake:
    """The lake that `make run` builds from the same log: Airflow in one process, Spark in local mode."""
    lake = Lake(home / "embedded" / "lake")
    first, last = days
    script = 'source bin/common.sh; airflow_environment "$1"; shift; airflow "$@"'

    def airflow(*arguments: str) -> None:
        run(
            "bash", "-c", script, "-", str(home / "embedded" / "airflow"), *arguments, MTORL_DEADLINE_HOURS="0", **SMALL
        )

    airflow("db", "migrate")
    history = {"raw": str(raw), "from": first, "to": day_before(last), **TRAINING}
    for name, conf in (("history", history),
                       ("daily", {"raw": str(raw), "date": last}), ("nightly", {"date": last})):  # fmt: skip
        airflow("dags", "test", f"mtorl_{name}_{DATASET}", "--conf", json.dumps({"lake": str(lake.root), **conf}))
    return lake


@pytest.fixture(scope="module")
def cluster(home, raw) -> Iterator[Cluster]:
    """All services, healthy. They are ended in any case."""
    run(str(ROOT / "docker" / "make-env.sh"), str(home / "env"))
    variables = read_env_file(home / "env") | {
        "WORKER_SLOTS": "2", "SPARK_WORKER_CORES": "1", "SPARK_WORKER_MEMORY": "1g", "SPARK_EXECUTOR_MEMORY": "1g",
    }  # fmt: skip
    # The loss of a worker is noticed after half a minute, not after five.
    heartbeat = {"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30"}
    cluster = Cluster(home, variables, SMALL | heartbeat)
    try:
        started_s = time.monotonic()
        cluster.up()
        print(f"\n{len(cluster.containers)} containers healthy after {time.monotonic() - started_s:.0f} s")
        with environment(store_environment(cluster)):
            for file in raw.iterdir():
                (path_of("s3://mtorl/raw") / DATASET / file.name).upload(file)
        yield cluster
    finally:
        end(home)


def store_environment(cluster: Cluster) -> dict[str, str]:
    """The variables by which a process of this machine, outside the cluster, finds its lake and its models."""
    keys = {name: cluster.variables[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    return keys | {
        "AWS_ENDPOINT_URL": cluster.url("s3", "8333"), "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_TRACKING_URI": cluster.url("mlflow", "5000"),
    }  # fmt: skip


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def airflow(cluster) -> Airflow:
    return Airflow(cluster.url("airflow-api", "8080"), cluster.variables["AIRFLOW_ADMIN_PASSWORD"])


def wait_for(condition: Callable[[], Any], description: str, seconds: float = RUN_S) -> Any:
    """The first true value of the condition."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s without success for {description}"
        time.sleep(0.3)
    return value


def processes(container: Container, word: str) -> list[psutil.Process]:
    """The container's processes with this word in their command line."""
    matching = []
    for process in members(container.home):
        try:
            if word in " ".join(process.cmdline()):
                matching.append(process)
        except psutil.NoSuchProcess:
            continue
    return matching


def busy_executors(cluster: Cluster) -> list[psutil.Process]:
    """The Spark executors that have Python workers, because these run the tasks of a job."""
    return [
        executor
        for container in cluster.containers_of("spark-worker")
        if processes(container, "pyspark.daemon")
        for executor in processes(container, "CoarseGrainedExecutorBackend")
    ]


def kill_executor(cluster: Cluster, job: str) -> None:
    """Kill an executor while this job runs on it."""
    (worker,) = cluster.containers_of("worker")
    wait_for(lambda: processes(worker, f"jobs/{job}.py"), f"the driver of {job}")
    executor = wait_for(lambda: busy_executors(cluster), f"an executor of {job} with Python workers")[0]
    assert processes(worker, f"jobs/{job}.py"), "the job had ended before its executor could be killed"
    executor.kill()
    check_ports(cluster)  # those of drivers and executors as well


def kill_worker(cluster: Cluster, name: str, word: str, is_running: Callable[[], Any]) -> None:
    """Kill all processes of a Celery worker while a command with this word runs in it; then restart its container."""
    (container,) = cluster.containers_of(name)
    wait_for(lambda: processes(container, word), f"{word} in {name}")
    wait_for(is_running, f"the middle of {word}")
    assert processes(container, word), f"{word} had ended before its worker could be killed"
    kill(container.home)
    cluster.restart(container)


def kill_store(cluster: Cluster, job: str) -> None:
    """Kill the S3 store while this job computes steps, and start it again after a few seconds."""
    (worker,), (store,) = cluster.containers_of("worker"), cluster.containers_of("s3")
    with environment(store_environment(cluster)):
        audits = Lake.at("s3://mtorl/lake").audits(DATASET) / EXPOSURES
        wait_for(lambda: list(audits.glob("*.json")), f"the audit of the exposures in {job}")
    wait_for(lambda: busy_executors(cluster), f"the steps in {job}")
    assert processes(worker, f"jobs/{job}.py"), "the job had ended before the store could be killed"
    kill(store.home)
    time.sleep(5)
    cluster.restart(store)
    wait_for(lambda: cluster.is_healthy(store), "the S3 store")


def visible_files(container: Container) -> set[str]:
    """The names in the folder of all containers, as the container sees it."""
    pid = container.process.pid
    return {path.name for path in Path(f"/proc/{pid}/root{container.home.parent}").iterdir()}


def test_a_killed_cluster_gives_the_embedded_lake(home, cluster, airflow, days, embedded):
    first, last = days
    check_ports(cluster)
    if may_unshare():
        for name in ("spark-worker", "worker", "worker-gpu", "airflow-scheduler"):
            for container in cluster.containers_of(name):
                assert visible_files(container) == {container.home.name}

    dag = f"mtorl_history_{DATASET}"
    conf = {"from": first, "to": day_before(last), **TRAINING}
    dags_of_dataset = f"/api/v2/dags?dag_id_pattern={DATASET}"
    wait_for(lambda: airflow.call("GET", dags_of_dataset)["total_entries"] >= 4, "the DAGs", 120)
    airflow.call("PATCH", f"/api/v2/dags/{dag}", {"is_paused": False})
    started_s = time.monotonic()
    history_run = airflow.call("POST", f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})
    kill_executor(cluster, "build_tables")
    kill_store(cluster, "build_tables")
    (gpu_worker,) = cluster.containers_of("worker-gpu")
    checkpoints = gpu_worker.home / "var" / "mtorl" / "scratch" / "checkpoints"
    kill_worker(cluster, "worker-gpu", "mtorl_model.train", lambda: list(checkpoints.rglob("checkpoint.pt")))
    path = f"/api/v2/dags/{dag}/dagRuns/{history_run['dag_run_id']}"
    wait_for(lambda: airflow.call("GET", path)["state"] in FINISHED, "the history")
    assert airflow.call("GET", path)["state"] == "success", states(airflow, path)
    history = tasks(airflow, path)
    print(f"history {time.monotonic() - started_s:.0f} s")
    assert history["train"]["try_number"] > 1
    assert history["train"]["queue"] == "gpu"

    started_s = time.monotonic()
    settings = {"AIRFLOW_URL": airflow.url, "AIRFLOW_ADMIN_PASSWORD": cluster.variables["AIRFLOW_ADMIN_PASSWORD"]}
    settings[MARK] = f"{home}/here"  # the end of the cluster ends it
    backfill = subprocess.Popen(
        ["make", "--silent", "backfill", f"DATASET={DATASET}", f"FROM={last}", f"TO={last}"],
        cwd=ROOT, env=os.environ | settings,
    )  # fmt: skip
    try:
        kill_worker(cluster, "worker", "jobs/build_tables.py", lambda: busy_executors(cluster))
        assert backfill.wait(timeout=RUN_S) == 0
    finally:
        backfill.kill()
    print(f"day, night and report {time.monotonic() - started_s:.0f} s")
    (daily,) = airflow.call("GET", f"/api/v2/dags/mtorl_daily_{DATASET}/dagRuns?partition_key_pattern={last}")[
        "dag_runs"
    ]
    daily_tasks = tasks(airflow, f"/api/v2/dags/mtorl_daily_{DATASET}/dagRuns/{daily['dag_run_id']}")
    assert daily_tasks["build_tables"]["try_number"] > 1
    assert {task["queue"] for task in daily_tasks.values()} == {"default", "gpu"}

    check_ports(cluster)
    check_spark(cluster)
    expected, expected_weights = contents(embedded), weights(embedded)
    assert {path.split("/")[1] for path in expected} == TABLES
    with environment(store_environment(cluster)):
        lake = Lake.at("s3://mtorl/lake")
        partitions, models = contents(lake), weights(lake)
    assert partitions == expected
    assert models == expected_weights
    print(f"{len(partitions)} partitions and {len(models)} models are the same")


def check_ports(cluster: Cluster) -> None:
    """Processes listen on this machine only, services on their ports; secrets are readable by their owner alone."""
    listening = set()
    for process in members(cluster.home):
        try:
            command = " ".join(process.cmdline())
            listening |= {tuple(c.laddr) for c in process.net_connections() if c.status == psutil.CONN_LISTEN}
        except psutil.NoSuchProcess:
            continue
        for name, value in read_env_file(cluster.home / "env").items():
            assert value not in command, f"{name} is in the command line of {process.name()}"
    addresses = {ipaddress.ip_address(ip.removeprefix("::ffff:")) for ip, _ in listening}
    assert addresses == {ipaddress.ip_address("127.0.0.1")}
    service_ports = {port for container in cluster.containers for port in container.ports.values()}
    assert service_ports <= {port for _, port in listening}
    for file in ("env", "volumes/airflow-secrets/passwords.json"):
        assert stat.S_IMODE((cluster.home / file).stat().st_mode) == 0o600


def check_spark(cluster: Cluster) -> None:
    """Both workers have started executors, and one executor was killed and replaced."""
    logs = [cluster.log(container) for container in cluster.containers_of("spark-worker")]
    for log in logs:
        assert "Asked to launch executor" in log
    assert re.search(r"exited with code 137|exitStatus 137", "\n".join(logs))


def tasks(airflow: Airflow, run_path: str) -> dict[str, dict[str, Any]]:
    return {task["task_id"]: task for task in airflow.call("GET", f"{run_path}/taskInstances")["task_instances"]}


def states(airflow: Airflow, run_path: str) -> dict[str, str]:
    return {name: task["state"] for name, task in tasks(airflow, run_path).items()}


def weights(lake: Lake) -> dict[str, str]:
    """The checksums of the files of every registered model."""
    versions = Registry(lake, get_dataset(DATASET), DEFAULT_METHOD).versions()
    assert versions
    return {version.name: (model_folder(lake, version) / CHECKSUMS).read_text() for version in versions}

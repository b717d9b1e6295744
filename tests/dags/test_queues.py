"""The queues of the DAGs are those that the Celery workers of docker/compose.yaml serve."""

import importlib
import importlib.util

import pytest
from compose_file import read_services

from dags.daily import daily_dag
from dags.history import history_dag
from dags.maintenance import maintenance_dag
from dags.nightly import nightly_dag
from dags.report import report_dag
from schemas.dataset import dataset_names


class _Anything(dict):
    """A value for every variable of the compose file."""

    def get(self, name: str) -> str:
        return "1"

    __getitem__ = get


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_every_queue_of_the_dags_has_a_worker_and_every_worker_a_queue():
    dags = [
        make(name)
        for make in (history_dag, daily_dag, nightly_dag, report_dag, maintenance_dag)
        for name in dataset_names()
    ]
    queues = {task.queue for dag in dags for task in dag.tasks}
    commands = [service.command for service in read_services(_Anything()).values()]
    workers = {option(c, "--queues"): c for c in commands if c[:3] == ["airflow", "celery", "worker"]}
    assert set(workers) == queues == {"default", "gpu"}
    # Two trainings would share the memory of one GPU.
    assert option(workers["gpu"], "--concurrency") == "1"
    assert len({option(command, "--celery-hostname") for command in workers.values()}) == len(workers)


def test_no_task_may_run_longer_than_the_time_after_which_redis_delivers_it_again():
    worker = read_services(_Anything())["worker-gpu"].environment
    visible_s = int(worker["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"])
    longest_s = max(task.execution_timeout.total_seconds() for task in history_dag("kuairand").tasks)
    assert visible_s > longest_s == 24 * 3600


@pytest.mark.skipif(not importlib.util.find_spec("celery"), reason="without the packages of requirements-cluster.txt")
def test_the_executor_loads_with_the_celery_that_is_pinned():
    module = importlib.import_module("airflow.providers.celery.executors.celery_executor")
    assert module.CeleryExecutor.is_local is False

"""Every task of the DAGs has a worker: the queues are those that the Celery workers of docker/compose.yaml serve."""

from compose import read_services

from dags.factory import daily_dag, history_dag, nightly_dag, report_dag
from schemas.dataset import dataset_names


class _Anything(dict):
    """A value for every variable of the compose file."""

    def get(self, name: str) -> str:
        return "1"

    __getitem__ = get


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_every_queue_of_the_dags_has_a_worker_and_every_worker_a_queue():
    dags = [make(name) for make in (history_dag, daily_dag, nightly_dag, report_dag) for name in dataset_names()]
    asked = {task.queue for dag in dags for task in dag.tasks}
    commands = [service.command for service in read_services(_Anything()).values()]
    workers = {option(c, "--queues"): c for c in commands if c[:3] == ["airflow", "celery", "worker"]}
    assert set(workers) == asked == {"default", "gpu"}
    # Two trainings would share the memory of one GPU.
    assert option(workers["gpu"], "--concurrency") == "1"
    assert len({option(command, "--celery-hostname") for command in workers.values()}) == len(workers)

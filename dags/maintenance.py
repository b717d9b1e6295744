"""The DAG `mtorl_maintenance_<dataset>`: a weekly tidy-up of the lake and of this machine."""

from airflow.sdk import DAG, CronTriggerTimetable, Param

from dags.dataset_dag import dataset_dag
from dags.steps import python_step
from schemas.dataset import get_dataset

_DRY_RUN = "{{ '--dry-run' if params.dry_run else '' }}"
_SUNDAY_NOON = "0 12 * * 0"  # far from midnight, when the daily run starts


def maintenance_dag(dataset: str) -> DAG:
    """Every Sunday: what no command needs any more is removed from the lake and from this machine.

    Replaced files of tables, old log entries, old pages, versions of models, caches that were not used, work folders
    of killed jobs, and logs of Airflow. The ages are in lakehouse/retention.py. Other runs need not stop: nothing is
    removed that they may still read. With the parameter `dry_run`, the task's log shows what would be removed.
    """
    with dataset_dag(
        "maintenance",
        dataset,
        str(maintenance_dag.__doc__),
        schedule=CronTriggerTimetable(_SUNDAY_NOON, timezone=get_dataset(dataset).timezone),
        params={"dry_run": Param(False, type="boolean", description="only print what would be removed")},
    ) as dag:
        python_step("jobs.maintain", dataset, _DRY_RUN)
        python_step("mtorl_model.expire_models", dataset, _DRY_RUN)
    return dag

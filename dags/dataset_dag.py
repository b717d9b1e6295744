"""The common parts of all DAGs of a dataset: names, parameters, retries, time limits, deadlines, assets."""

import os
from datetime import timedelta
from inspect import cleandoc

from airflow.sdk import DAG, Asset, DeadlineAlert, DeadlineReference, Param, SyncCallback

from dags import alerts
from dags.steps import default_budget, setting
from schemas.dataset import get_dataset

DAY_FORMAT = {"format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
_METHOD_NAME = r"[a-z][a-z0-9_]{0,63}"
OPTIONAL_DAY = Param(
    None, type=["null", "string"], **DAY_FORMAT, description="the day, if the run has no partition key"
)
FIRST_DAY = Param(type="string", **DAY_FORMAT, description="first day of the log to use")
LAST_DAY = Param(type="string", **DAY_FORMAT, description="last day of the log to use")
# No control characters, and no leading hyphen, which a command line could take for an option.
_FOLDER_FORMAT = {"type": ["null", "string"], "pattern": r"^[^\x00-\x1f-][^\x00-\x1f]*$"}

_TASK_DEFAULTS = {
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "on_failure_callback": alerts.failed,
    "on_skipped_callback": alerts.nothing_to_do,
}
DAY_TASK_LIMIT = timedelta(hours=2)  # a task on one day usually takes a minute
HISTORY_TASK_LIMIT = timedelta(hours=24)  # a month of a large log, or a full training


def raw_folder_param(dataset: str) -> Param:
    return Param(
        None, **_FOLDER_FORMAT, description=f"folder of the raw log; empty: the folder in MTORL_RAW_{dataset.upper()}"
    )


def method_param(dataset: str) -> Param:
    """The methods of a run. MTORL_METHODS_<DATASET> names those of scheduled runs."""
    return Param(
        os.environ.get(f"MTORL_METHODS_{dataset.upper()}") or "mtorl",
        type="string",
        pattern=f"^{_METHOD_NAME}(,{_METHOD_NAME})*$",
        description="names of the methods (mtorl_model/methods), separated by commas",
    )


def journeys_asset(dataset: str) -> Asset:
    """The audited journeys of a day."""
    return Asset(f"journeys_{dataset}")


def champion_asset(dataset: str) -> Asset:
    """The champion after the promotion gate of a day. It starts the nightly run."""
    return Asset(f"champion_{dataset}")


def budget_plan_asset(dataset: str) -> Asset:
    """The audited budget plan of a day, which ends the nightly run. It starts the report."""
    return Asset(f"budget_plan_{dataset}")


def dataset_dag(
    name: str,
    dataset: str,
    doc: str,
    *,
    schedule,
    params: dict[str, Param],
    deadline_hours: float | None = None,
    task_limit: timedelta = DAY_TASK_LIMIT,
) -> DAG:
    """The DAG `mtorl_<name>_<dataset>`, without tasks.

    doc: the docstring of the DAG, which Airflow shows.
    deadline_hours: a run that takes longer, counted from its queueing, causes an alert and continues.
    task_limit: a task that takes longer is ended.
    """
    lake = Param(None, **_FOLDER_FORMAT, description="folder of the lake; empty: the folder in MTORL_LAKE")
    return DAG(
        f"mtorl_{name}_{dataset}",
        description=f"{get_dataset(dataset).title}: {doc.splitlines()[0]}",
        schedule=schedule,
        catchup=False,  # with no start date either: a DAG that is switched on starts with the latest complete day
        max_active_runs=1,
        default_args={**_TASK_DEFAULTS, "execution_timeout": task_limit},
        deadline=_deadline(deadline_hours),
        params={"lake": lake, **params},
        user_defined_macros={"setting": setting, "default_budget": default_budget},
        tags=["mtorl", dataset],
        doc_md=cleandoc(doc),
    )


def _deadline(hours: float | None) -> DeadlineAlert | None:
    """The alert for a late run. MTORL_DEADLINE_HOURS replaces the hours; with 0 there is no deadline.

    `make run` sets 0, because `dags test` of Airflow 3.3.2 ends in a traceback if a DAG has a deadline.
    """
    if hours:
        hours = float(os.environ.get("MTORL_DEADLINE_HOURS", hours))
    if not hours:
        return None
    return DeadlineAlert(
        DeadlineReference.DAGRUN_QUEUED_AT, timedelta(hours=hours), SyncCallback(alerts.late, {"hours": hours})
    )

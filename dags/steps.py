"""The tasks of the DAGs and their arguments. Every task starts an entry point of `jobs` or `mtorl_model`."""

import os

from airflow.sdk import DAG, Asset, BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from dags.operators import PythonStep, SparkStep

# The day of a run: the partition key of a scheduled, backfilled or asset-triggered run, the parameter of a manual run,
# the logical date of `airflow dags test`.
DAY_EXPRESSION = "partition_key or params.date or ds"
DAY = f"{{{{ {DAY_EXPRESSION} }}}}"
ONE_DAY = ("--from", DAY, "--to", DAY)
DAYS = ("--from", "{{ params.from }}", "--to", "{{ params.to }}")
LAST_DAY_ONLY = ("--from", "{{ params.to }}", "--to", "{{ params.to }}")
LAKE_FOLDER = "{{ params.lake or setting('MTORL_LAKE') }}"
IF_ASKED_THIS_CODE = "{{ '--this-code' if params.this_code else '' }}"
IF_FEW_ROWS_ARE_ACCEPTED = "{{ '--accept-few-rows' if params.accept_few_rows else '' }}"
METHOD_OPTION = ("--method", "{{ params.method }}")
ONLY_PUBLISHED = ("--only-published",)  # an audit leaves out tables without a partition
ONLY_NEW = ("--new",)  # an audit skips partitions that have passed with their present content


def setting(name: str) -> str:
    """An environment variable, read when a task runs. The task fails without a retry if it is not set."""
    try:
        return os.environ[name]
    except KeyError:
        raise AirflowFailException(f"error: neither the run's parameters nor {name} name the folder") from None


def default_budget(variable: str) -> str:
    """The argument with the standing budget in an environment variable, read when a task runs; empty if it is not set.

    The standing budget is for days for which no budget was given.
    """
    budget = os.environ.get(variable)
    return f"--default-budget={budget}" if budget else ""


def raw_folder(dataset: str) -> tuple[str, str]:
    return "--raw", f"{{{{ params.raw or setting('MTORL_RAW_{dataset.upper()}') }}}}"


def spark_step(job: str, dataset: str, *arguments: str, **kwargs) -> BaseOperator:
    """A task with the name of a job in `jobs`."""
    all_arguments = ["--dataset", dataset, "--lake", LAKE_FOLDER, *arguments]
    return SparkStep(task_id=job, job=f"jobs/{job}.py", arguments=all_arguments, **kwargs)


def python_step(module: str, dataset: str, *arguments: str, task_id: str = "", **kwargs) -> BaseOperator:
    """A task with the name of an entry point, or with another name."""
    all_arguments = ["--dataset", dataset, "--lake", LAKE_FOLDER, *arguments]
    return PythonStep(task_id=task_id or module.rpartition(".")[2], module=module, arguments=all_arguments, **kwargs)


def audit_step(
    name: str,
    dataset: str,
    arguments: tuple[str, ...],
    *,
    tables: tuple[str, ...] = (),
    publishes: tuple[Asset, ...] = (),
) -> BaseOperator:
    """The task `audit_<name>`: an audit of the table of that name, or of several tables.

    One task audits several tables, because starting an audit takes longer than the audit. A critical failure fails the
    task and stops the tasks after it, without a retry. The partition remains published, but no job accepts it as an
    input (lakehouse.lake.Partition.require).
    """
    return python_step(
        "jobs.audit_table",
        dataset,
        "--table",
        *(tables or (name,)),
        *arguments,
        task_id=f"audit_{name}",
        outlets=list(publishes),
    )


def report_after_audits(dag: DAG, dataset: str) -> None:
    """Add the task `report`, which writes the day's page even if the day was stopped by a failure.

    It is a teardown: it runs after the audits whether or not they failed, and it does not change the state of the run.
    It waits for every audit, and for build_tables, which audits the exposures: otherwise it would start at the first
    failure of a parallel task. A day without rows has no page; the task that noticed it has sent the alert, so this
    task sends none.
    """
    report = python_step("jobs.report", dataset, "--day", DAY, "--if-there", on_skipped_callback=None)
    [task for task in dag.tasks if task.task_id.startswith(("audit_", "build_tables"))] >> report.as_teardown()

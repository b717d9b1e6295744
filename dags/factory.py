"""The four DAGs of a dataset, wired from the entry points of `jobs` and `mtorl_model`."""

import os
from datetime import timedelta
from inspect import cleandoc

from airflow.sdk import (
    DAG,
    Asset,
    BaseOperator,
    CronPartitionTimetable,
    DeadlineAlert,
    DeadlineReference,
    Param,
    PartitionedAssetTimetable,
    SyncCallback,
    chain,
)
from airflow.sdk.exceptions import AirflowFailException

from dags import alerts
from dags.operators import PythonStep, SparkStep
from schemas.dataset import get_dataset
from schemas.tables.registry import CHAMPION_TABLES, SCORE_TABLES, TABLES_FROM_HISTORY, TABLES_FROM_RAW

# The day of a run: the partition key of a scheduled, backfilled or asset-triggered run, the parameter of a
# run that a person starts, the logical date of `airflow dags test`.
_DAY = "partition_key or params.date or ds"
DAY = f"{{{{ {_DAY} }}}}"
DAYS = ("--from", "{{ params.from }}", "--to", "{{ params.to }}")
ONE_DAY = ("--from", DAY, "--to", DAY)
UP_TO_DAY = ("--up-to", DAY)
THIS_CODE = "{{ '--this-code' if params.this_code else '' }}"
NEW = ("--new",)  # of an audit: what it has passed as it lies there is left out
LAKE = ("--lake", "{{ params.lake or setting('MTORL_LAKE') }}")

_A_DAY = {"format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
_OPTIONAL_DAY = Param(None, type=["null", "string"], **_A_DAY, description="the day, where no partition key says it")
_FIRST_DAY = Param(type="string", **_A_DAY, description="first day of the log to use")
_LAST_DAY = Param(type="string", **_A_DAY, description="last day of the log to use")
# No control characters, and nothing that a command line could take for an option.
_FOLDER = {"type": ["null", "string"], "pattern": r"^[^\x00-\x1f-][^\x00-\x1f]*$"}

_TASKS = {
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "on_failure_callback": alerts.failed,
    "on_skipped_callback": alerts.nothing_there,
}
_A_DAYS_STEP = timedelta(hours=2)  # takes a minute
_A_HISTORYS_STEP = timedelta(hours=24)  # a month of a large log, or a full training
_LATE_FILE = timedelta(hours=6)


def setting(name: str) -> str:
    """An environment variable, read when a task runs; a task without it fails at once."""
    try:
        return os.environ[name]
    except KeyError:
        raise AirflowFailException(f"error: neither the run's parameters nor {name} name the folder") from None


def default_budget(variable: str) -> str:
    """The argument for the standing budget of a day that no person has given one; read when a task runs."""
    budget = os.environ.get(variable)
    return f"--default-budget={budget}" if budget else ""


def journeys_asset(dataset: str) -> Asset:
    """The audited journeys of a day."""
    return Asset(f"journeys_{dataset}")


def champion_asset(dataset: str) -> Asset:
    """The champion as the promotion gate has left it for a day: what the nightly run waits for."""
    return Asset(f"champion_{dataset}")


def budget_plan_asset(dataset: str) -> Asset:
    """The audited budget plan of a day: the nightly run is through."""
    return Asset(f"budget_plan_{dataset}")


def _raw(dataset: str) -> tuple[str, str]:
    return "--raw", f"{{{{ params.raw or setting('MTORL_RAW_{dataset.upper()}') }}}}"


def _spark(job: str, dataset: str, *arguments: str, **kwargs) -> BaseOperator:
    return SparkStep(task_id=job, job=f"jobs/{job}.py", arguments=["--dataset", dataset, *LAKE, *arguments], **kwargs)


def _python(task_id: str, module: str, dataset: str, *arguments: str, **kwargs) -> BaseOperator:
    return PythonStep(task_id=task_id, module=module, arguments=["--dataset", dataset, *LAKE, *arguments], **kwargs)


def _audit(
    name: str, dataset: str, days: tuple[str, ...], *, tables: tuple[str, ...] = (), publishes: tuple[Asset, ...] = ()
) -> BaseOperator:
    """The audit of the table of this name, or of `tables` together: what is asked of them takes less than the start.

    A critical failure fails the task, and with it all that stands behind it: a finding is not tried again, an accident
    is. The partition stays published as it is, but no job takes it as an input (lakehouse.lake.Partition.require).
    """
    tables = tables or (name,)
    return _python(f"audit_{name}", "jobs.audit_table", dataset, "--table", *tables, *days, outlets=list(publishes))


def _report_however_it_ends(dag: DAG, dataset: str) -> None:
    """The last task: the day's page, also and above all of a day that was stopped.

    A teardown runs whatever has become of the tasks before it, and the state of the run does not depend on it; behind
    every audit, since of audits side by side the first failure would not wait for the others. A day without rows has no
    page: the alert is told by the task that found none.
    """
    task = _python("report", "jobs.report", dataset, "--day", DAY, "--if-there", on_skipped_callback=None)
    [audit for audit in dag.tasks if audit.task_id.startswith("audit_")] >> task.as_teardown()


def _dag(
    name: str,
    dataset: str,
    doc: str,
    *,
    schedule,
    params: dict[str, Param],
    hours: float | None = None,
    task_limit: timedelta = _A_DAYS_STEP,
) -> DAG:
    """task_limit: a task that takes longer hangs, and is ended.

    hours: a run that is not done so long after it was queued is told of (it goes on). MTORL_DEADLINE_HOURS sets other
    hours, 0 none: Airflow 3.3.2's `dags test`, which make run uses, ends in a traceback on a DAG with a deadline.
    """
    deadline = None
    if hours:
        hours = float(os.environ.get("MTORL_DEADLINE_HOURS", hours))
    if hours:
        deadline = DeadlineAlert(
            DeadlineReference.DAGRUN_QUEUED_AT, timedelta(hours=hours), SyncCallback(alerts.late, {"hours": hours})
        )
    lake = Param(None, **_FOLDER, description="output folder; empty: MTORL_LAKE")
    return DAG(
        f"mtorl_{name}_{dataset}",
        description=f"{get_dataset(dataset).title}: {doc.splitlines()[0]}",
        schedule=schedule,
        catchup=False,  # and no start date: a DAG that is switched on starts with the latest day that is over
        max_active_runs=1,
        default_args={**_TASKS, "execution_timeout": task_limit},
        deadline=deadline,
        params={"lake": lake, **params},
        user_defined_macros={"setting": setting, "default_budget": default_budget},
        tags=["mtorl", dataset],
        doc_md=cleandoc(doc),
    )


def _raw_param(dataset: str) -> Param:
    return Param(None, **_FOLDER, description=f"folder of the raw log; empty: MTORL_RAW_{dataset.upper()}")


def history_dag(dataset: str) -> DAG:
    """By hand: a range of days, then a model trained from scratch as the first champion.

    Needs `from` and `to`. Rows go from the raw log to exposures, journeys and sequences; a table that fails
    its audit stops everything behind it. Training registers the champion; the evaluation is on users that
    it has never seen.
    """
    params = {
        "raw": _raw_param(dataset),
        "from": _FIRST_DAY,
        "to": _LAST_DAY,
        "preset": Param("small", type="string", enum=["small", "paper"], description="size of the model"),
        "labels_known_by": Param(
            None,
            type=["null", "string"],
            **_A_DAY,
            description="to replay history: labels as known at the end of this day; empty: as the log has them now",
        ),
        "max_epochs": Param(None, type=["null", "integer"], minimum=1, description="empty: the preset's"),
        "members": Param(
            None, type=["null", "integer"], minimum=1, description="models to average; empty: the preset's"
        ),
        "processes": Param(
            None, type=["null", "integer"], minimum=1, description="that train together, a GPU each; empty: one"
        ),
    }
    last_day = ("--from", "{{ params.to }}", "--to", "{{ params.to }}")
    max_epochs = "{{ '--max-epochs=%d' % params.max_epochs if params.max_epochs else '' }}"
    processes = "{{ '--processes=%d' % params.processes if params.processes else '' }}"
    members = "{{ '--members=%d' % params.members if params.members else '' }}"
    metrics = f"{LAKE[1]}/metrics/dataset={dataset}/metrics.json"
    with _dag(
        "history", dataset, history_dag.__doc__, schedule=None, params=params, task_limit=_A_HISTORYS_STEP
    ) as dag:
        # By hand, so everything is made by the code that lies here; the daily run leaves the past alone.
        exposures = _spark("build_exposures", dataset, *_raw(dataset), *DAYS, "--this-code")
        journeys = _spark("build_journeys", dataset, "--day", "{{ params.to }}", "--this-code")
        spec = _spark("build_feature_spec", dataset, *DAYS, "--this-code")
        spec_day = ("--spec-day", "{{ params.to }}")  # the spec just fitted, not the newest in the lake
        sequences = _spark("build_sequences", dataset, *DAYS, *spec_day, "--this-code")
        known_by = "{{ '--labels-known-by=%s' % params.labels_known_by if params.labels_known_by else '' }}"
        # One slot: two trainings would share the memory of one GPU.
        train = _python(
            "train", "mtorl_model.train", dataset, *DAYS, *spec_day, known_by, "--preset", "{{ params.preset }}",
            max_epochs, members, processes, pool="gpu", queue="gpu",
        )  # fmt: skip
        evaluate = _python(
            "evaluate", "mtorl_model.evaluate", dataset, *DAYS, "--split", "test", "--out", metrics
        )  # fmt: skip
        chain(exposures, _audit("raw_rows", dataset, DAYS, tables=TABLES_FROM_RAW), [journeys, spec])
        audits = [_audit("journeys", dataset, last_day), _audit("feature_spec", dataset, last_day)]
        chain([journeys, spec], audits, sequences, _audit("sequences", dataset, DAYS), train, evaluate)
    return dag


def daily_dag(dataset: str) -> DAG:
    """Every day, and backfilled: one day of the log becomes exposures, journeys, sequences and a challenger.

    What is fresh is left alone; rows that came late for earlier days are taken in first, since the day rests on them;
    where the day's own are not there yet, a scheduled run waits for them. The day is the partition key. The windows
    are cut as the champion's were; without a champion there are none, and the run fails with one line:
    `mtorl_history_*` makes the first. The champion is tested on the day, then fine-tuned on it; the promotion gate
    decides who is champion from now on, and its audit starts the nightly run of the same day.
    """
    # A day is over at midnight of the dataset's own calendar.
    timetable = CronPartitionTimetable(
        "0 0 * * *", timezone=get_dataset(dataset).timezone, run_offset=-1, key_format="%Y-%m-%d"
    )
    params = {
        "raw": _raw_param(dataset),
        "date": _OPTIONAL_DAY,
        "this_code": Param(False, type="boolean", description="build again what another version of the code built"),
    }
    # Outcomes of earlier days may have come in, and with them new labels.
    maturing = ("--from", f"{{{{ macros.ds_add({_DAY}, -{get_dataset(dataset).outcome_days}) }}}}", "--to", DAY)
    champion = f"{LAKE[1]}/champion/dataset={dataset}"
    spec = ("--spec", f"{champion}/feature_spec.json")
    with _dag("daily", dataset, daily_dag.__doc__, schedule=timetable, params=params, hours=8) as dag:
        exposures = _spark("build_exposures", dataset, *_raw(dataset), *UP_TO_DAY, THIS_CODE, waits=_LATE_FILE)
        raw_audit = _audit("raw_rows", dataset, ("--to", DAY, *NEW), tables=TABLES_FROM_RAW)
        handed_out = _python("export_champion", "mtorl_model.export_champion", dataset, "--out", champion)
        built = _spark("build_day", dataset, "--day", DAY, *spec, THIS_CODE)
        journeys = (journeys_asset(dataset),)
        chain(
            exposures,
            raw_audit,
            built,
            _audit("day", dataset, (*spec, *maturing, *NEW), tables=TABLES_FROM_HISTORY, publishes=journeys),
            # Test, then train, then ask the gate.
            _python("learn", "mtorl_model.learn", dataset, "--day", DAY, pool="gpu", queue="gpu"),
            # No night rests on a champion whose tests are not to be believed.
            _audit("champion", dataset, ONE_DAY, tables=CHAMPION_TABLES, publishes=(champion_asset(dataset),)),
        )
        handed_out >> built
        _report_however_it_ends(dag, dataset)
    return dag


def nightly_dag(dataset: str) -> DAG:
    """When a day's journeys and champion are there: all users scored, the budget planned, all tables audited.

    Scoring publishes policies, ranks and the channel level; the plan then spends `budget` (in the log's unit; a
    number of exposures where the log has no costs) on the best pairs of user and channel. A run without one, as the
    gate starts it, keeps the budget that the day was planned with, and gives a day that has none the environment's
    MTORL_BUDGET_<DATASET>; without that, nobody is selected. Each table is audited: whoever waits for their assets
    gets them only after a passed audit, whoever reads the files should look at the audits. Before the first champion
    the run fails with one line that says how to make it.
    """
    # The gate comes behind the day's audited journeys: its asset says that both are there.
    timetable = PartitionedAssetTimetable(assets=champion_asset(dataset))
    standing = f"MTORL_BUDGET_{dataset.upper()}"
    told = f"the day's budget; empty: as it was planned before, or {standing}"
    budget = Param(None, type=["null", "number"], minimum=0, description=told)
    params = {"date": _OPTIONAL_DAY, "budget": budget}
    with _dag("nightly", dataset, nightly_dag.__doc__, schedule=timetable, params=params, hours=2) as dag:
        tables = tuple(Asset(f"{table}_{dataset}") for table in SCORE_TABLES)
        asked = "'--budget=%r' % params.budget if params.budget is not none"
        spend = f"{{{{ {asked} else default_budget('{standing}') }}}}"
        chain(
            _python("score", "mtorl_model.score", dataset, "--day", DAY),
            _audit("scores", dataset, (*ONE_DAY, *NEW), tables=SCORE_TABLES, publishes=tables),
            _python("plan_budget", "mtorl_model.plan_budget", dataset, "--day", DAY, spend),
            _audit("budget_plan", dataset, ONE_DAY, publishes=(budget_plan_asset(dataset),)),
        )
        _report_however_it_ends(dag, dataset)
    return dag


def report_dag(dataset: str) -> DAG:
    """When a day's nightly run is through: drift against earlier days, then the day's page with all there is.

    The page is written whatever the drift has come to. A day that was stopped before has its page from the run that
    was stopped.
    """
    timetable = PartitionedAssetTimetable(assets=budget_plan_asset(dataset))
    with _dag("report", dataset, report_dag.__doc__, schedule=timetable, params={"date": _OPTIONAL_DAY}) as dag:
        report = _python("report", "jobs.report", dataset, "--day", DAY)
        # A day that is over and empty has no drift: nobody needs to be told.
        drift = _python("measure_drift", "jobs.measure_drift", dataset, "--day", DAY, on_skipped_callback=None)
        drift >> report.as_teardown(on_failure_fail_dagrun=True)
    return dag

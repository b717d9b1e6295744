"""The DAG `mtorl_daily_<dataset>`: one day of the log, up to the decision about the champion."""

from datetime import timedelta

from airflow.sdk import DAG, CronPartitionTimetable, Param

from dags.dataset_dag import (
    OPTIONAL_DAY,
    champion_asset,
    dataset_dag,
    journeys_asset,
    method_param,
    raw_folder_param,
)
from dags.steps import (
    DAY,
    DAY_EXPRESSION,
    IF_ASKED_THIS_CODE,
    IF_FEW_ROWS_ARE_ACCEPTED,
    LAKE_FOLDER,
    METHOD_OPTION,
    ONE_DAY,
    ONLY_NEW,
    audit_step,
    python_step,
    raw_folder,
    report_after_audits,
    spark_step,
)
from schemas.dataset import get_dataset
from schemas.days import first_hour
from schemas.tables.registry import CHAMPION_TABLES, TABLES_FROM_HISTORY

_WAIT_FOR_ROWS = timedelta(hours=6)
_BUILD_LIMIT = timedelta(hours=6)  # late rows, or a new version of the code, may make many earlier days stale


def daily_dag(dataset: str) -> DAG:
    """Every day, and in backfills: one day of the log becomes exposures, journeys, sequences and a challenger.

    The day is the partition key. Fresh partitions are not built again. Rows of earlier days that were delivered late
    are read first, because the day depends on them. If the day's own rows are missing, or are few next to earlier days,
    a scheduled run waits for them.
    The audit warns of channels that the feature spec of the champion does not know. Without a champion, the run fails
    with one line that names `mtorl_history_*`, which makes the first one. The champion of each method is tested on the
    day, then fine-tuned on it. The promotion gate decides which model of the method is the champion from now on, and
    the audit of these decisions starts the nightly run of the day.
    """
    champion = f"{LAKE_FOLDER}/{dataset}/champion"
    with dataset_dag(
        "daily",
        dataset,
        str(daily_dag.__doc__),
        schedule=_after_midnight(dataset),
        params=_params(dataset),
        deadline_hours=8,
    ) as dag:
        # One task from the raw log to steps, with the audit of the exposures inside: Spark then starts once.
        build_tables = spark_step(
            "build_tables",
            dataset,
            *raw_folder(dataset),
            "--up-to",
            DAY,
            "--audit",
            "--journeys",
            IF_ASKED_THIS_CODE,
            IF_FEW_ROWS_ARE_ACCEPTED,
            waits=_WAIT_FOR_ROWS,
            execution_timeout=_BUILD_LIMIT,
        )
        # The audit reads the spec of mtorl's champion, if the lake has one.
        export_champion = python_step(
            "mtorl_model.export_champion", dataset, "--out", champion, "--method", "mtorl,{{ params.method }}"
        )
        audit_day = audit_step(
            "day",
            dataset,
            ("--spec", f"{champion}/feature_spec.json", *_days_with_new_labels(dataset), *ONLY_NEW),
            tables=TABLES_FROM_HISTORY,
            publishes=(journeys_asset(dataset),),
        )
        # For each method: tests the champion, then fine-tunes it, then passes the promotion gate.
        learn = python_step("mtorl_model.learn", dataset, "--day", DAY, *METHOD_OPTION, pool="gpu", queue="gpu")
        # The nightly run starts only if the measurements of the champion are valid.
        audit_champion = audit_step(
            "champion", dataset, ONE_DAY, tables=CHAMPION_TABLES, publishes=(champion_asset(dataset),)
        )

        build_tables >> audit_day >> learn >> audit_champion
        export_champion >> audit_day
        report_after_audits(dag, dataset)
    return dag


def _after_midnight(dataset: str) -> CronPartitionTimetable:
    """A run for each day, started at the midnight after it, in the time zone of the dataset.

    In a zone whose clocks go forward at midnight the run starts at the first hour that every day has: with a midnight
    that does not exist, Airflow gives the run the key of the wrong day and skips a day.
    """
    timezone = get_dataset(dataset).timezone
    cron = f"0 {first_hour(timezone)} * * *"
    return CronPartitionTimetable(cron, timezone=timezone, run_offset=-1, key_format="%Y-%m-%d")


def _days_with_new_labels(dataset: str) -> tuple[str, ...]:
    """The days whose sequences may have changed: late gains of earlier exposures may have become known."""
    first_day = f"{{{{ macros.ds_add({DAY_EXPRESSION}, -{get_dataset(dataset).outcome_days}) }}}}"
    return "--from", first_day, "--to", DAY


def _params(dataset: str) -> dict[str, Param]:
    return {
        "raw": raw_folder_param(dataset),
        "date": OPTIONAL_DAY,
        "method": method_param(dataset),
        "this_code": Param(False, type="boolean", description="build again what another version of the code built"),
        "accept_few_rows": Param(False, type="boolean", description="the day is complete although it has few rows"),
    }

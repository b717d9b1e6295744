"""Real runs of small DAGs with the operators of the project, and the day that their templates give."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.exceptions import AirflowException
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

from dags.daily import daily_dag
from dags.steps import DAY, setting

pytestmark = pytest.mark.airflow


@pytest.fixture
def run(tiny_bag, tmp_path):
    """Runs a DAG with one task. Returns the state of the task, the number of attempts, and its calls."""
    calls = tmp_path / "calls.txt"

    def run(name: str, logical_date: datetime | None = None, **params: str) -> tuple[str, int, list[str]]:
        # Every run sets all parameters, because `test` leaves them in the DAG for the next run.
        conf = {"calls": str(calls), "status": "0", "typed": "", "date": None, **params}
        done = tiny_bag.dags[name].test(logical_date=logical_date, run_conf=conf)
        (instance,) = done.get_task_instances()
        return instance.state, instance.try_number, calls.read_text().splitlines()

    return run


@pytest.fixture
def spark_connection(monkeypatch):
    # The jobs here do nothing, so the start of Java is all that they cost.
    for options in ("SPARK_SUBMIT_OPTS", "SPARK_LAUNCHER_OPTS"):
        monkeypatch.setenv(options, "-XX:+UseSerialGC -XX:TieredStopAtLevel=1")
    monkeypatch.setenv("AIRFLOW_CONN_SPARK", '{"conn_type": "spark", "host": "local[1]"}')
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def test_an_argument_reaches_the_entry_point_unchanged(run, tmp_path):
    hostile = f"'\"; touch {tmp_path}/pwned; $(touch {tmp_path}/pwned) {{{{ ds }}}} $HOME"
    assert run("tiny_python", typed=hostile) == ("success", 1, [f"a|{hostile}"])
    assert not (tmp_path / "pwned").exists()


def test_an_empty_argument_is_left_out(run):
    assert run("tiny_python")[2] == ["a"]


@pytest.mark.parametrize(
    ("status", "state", "calls"),
    [("2", "failed", ["a"]), ("1", "failed", ["a", "a"]), ("3", "skipped", ["a"]), ("4", "skipped", ["a"])],
    ids=["invalid input", "unexpected failure", "nothing to do", "nothing to do yet"],
)
def test_only_an_unexpected_failure_is_tried_again(run, status, state, calls):
    assert run("tiny_python", status=status) == (state, len(calls), calls)


@pytest.mark.spark
def test_an_empty_argument_of_a_spark_job_is_left_out(run, spark_connection):
    assert run("tiny_spark", typed="") == ("success", 1, [""])


@pytest.mark.spark
@pytest.mark.parametrize(
    ("status", "state", "calls"),
    [("2", "failed", ["x"]), ("1", "failed", ["x", "x"]), ("3", "skipped", ["x"])],
    ids=["invalid input", "unexpected failure", "nothing to do"],
)
def test_only_an_unexpected_failure_of_a_spark_job_is_tried_again(run, spark_connection, status, state, calls):
    assert run("tiny_spark", status=status, typed="x") == (state, len(calls), calls)


@pytest.mark.parametrize(
    ("kind", "hours_ago", "status", "ends"),
    [
        ("scheduled", 1, 4, "AirflowRescheduleException"),
        ("scheduled", 7, 4, "AirflowSkipException"),
        ("scheduled", 1, 3, "AirflowSkipException"),
        ("backfill", 1, 4, "AirflowSkipException"),
    ],
    ids=["late file", "too late", "the log has ended", "a past day"],
)
def test_only_a_scheduled_run_waits_for_its_rows_and_for_a_limited_time(monkeypatch, kind, hours_ago, status, ends):
    def submit(self, context):
        raise AirflowException(f"Cannot execute. Error code is: {status}.\nnothing to do: so far no row of 2022-04-24")

    monkeypatch.setattr(SparkSubmitOperator, "execute", submit)
    step = daily_dag("kuairand").get_task("build_tables")
    run = SimpleNamespace(run_type=kind, start_date=datetime.now(UTC) - timedelta(hours=hours_ago))
    with pytest.raises(AirflowException) as raised:
        step.execute({"dag_run": run})
    assert type(raised.value).__name__ == ends
    if ends == "AirflowRescheduleException":
        assert timedelta(0) < raised.value.reschedule_date - datetime.now(UTC) < timedelta(hours=1)


def test_the_day_of_a_manual_run_is_its_parameter(run):
    # The logical date of a manual run is the present time.
    assert run("tiny_day", datetime(2024, 1, 1, tzinfo=UTC), date="2022-04-22")[2] == ["2022-04-22"]


def test_without_key_and_parameter_the_day_is_the_logical_date(run):
    assert run("tiny_day", datetime(2022, 4, 23, tzinfo=UTC))[2] == ["2022-04-23"]


def test_the_day_is_the_key_of_a_partitioned_run(tiny_bag):
    template = tiny_bag.dags["tiny_day"].get_template_env().from_string(DAY)
    # A partitioned run has no logical date and therefore no ds.
    assert template.render(partition_key="2022-04-24", params={"date": None}) == "2022-04-24"


def test_a_folder_is_read_from_the_environment_when_the_task_runs(monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    monkeypatch.delenv("MTORL_LAKE", raising=False)
    with pytest.raises(AirflowFailException, match="MTORL_LAKE"):
        setting("MTORL_LAKE")
    monkeypatch.setenv("MTORL_LAKE", "/lake")
    assert setting("MTORL_LAKE") == "/lake"


@pytest.mark.parametrize(
    ("status", "state", "expected_calls"),
    [("0", "success", ["audit", "after_audit", "report"]), ("2", "failed", ["audit", "report"])],
)
def test_a_teardown_runs_after_a_failure_and_the_run_still_fails(tiny_bag, tmp_path, status, state, expected_calls):
    """The page of a stopped day depends on this."""
    calls = tmp_path / "calls.txt"
    done = tiny_bag.dags["tiny_stopped"].test(run_conf={"calls": str(calls), "status": status, "typed": ""})
    assert done.state == state
    assert calls.read_text().splitlines() == expected_calls

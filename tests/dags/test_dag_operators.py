"""Real runs of tiny DAGs with the operators of the project, and of the days that their templates name."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.exceptions import AirflowException
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

from dags.factory import DAY, daily_dag, setting

pytestmark = pytest.mark.airflow


@pytest.fixture
def run(tiny_bag, tmp_path):
    """Run a tiny DAG here and now: the state of its only task, how often it was tried, and the calls it made."""
    calls = tmp_path / "calls.txt"

    def run(name: str, logical_date: datetime | None = None, **params: str) -> tuple[str, int, list[str]]:
        # All parameters each time: `test` leaves them in the DAG for the next run.
        conf = {"calls": str(calls), "status": "0", "typed": "", "date": None, **params}
        done = tiny_bag.dags[name].test(logical_date=logical_date, run_conf=conf)
        (instance,) = done.get_task_instances()
        return instance.state, instance.try_number, calls.read_text().splitlines()

    return run


@pytest.fixture
def spark_connection(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SPARK", '{"conn_type": "spark", "host": "local[1]"}')
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def test_an_argument_reaches_the_entry_point_as_it_is(run, tmp_path):
    nasty = f"'\"; touch {tmp_path}/pwned; $(touch {tmp_path}/pwned) {{{{ ds }}}} $HOME"
    assert run("tiny_python", typed=nasty) == ("success", 1, [f"a|{nasty}"])
    assert not (tmp_path / "pwned").exists()


def test_an_empty_argument_is_left_out(run):
    assert run("tiny_python")[2] == ["a"]


@pytest.mark.parametrize(
    ("status", "state", "calls"),
    [("2", "failed", ["a"]), ("1", "failed", ["a", "a", "a"]), ("3", "skipped", ["a"]), ("4", "skipped", ["a"])],
    ids=["bad input", "accident", "nothing to do", "nothing to do yet"],
)
def test_only_an_accident_is_tried_again(run, status, state, calls):
    assert run("tiny_python", status=status) == (state, len(calls), calls)


def test_an_empty_argument_of_a_spark_job_is_left_out(run, spark_connection):
    assert run("tiny_spark", typed="")[2] == [""]


@pytest.mark.spark
@pytest.mark.parametrize(
    ("status", "state", "calls"),
    [("0", "success", ["x"]), ("2", "failed", ["x"]), ("1", "failed", ["x", "x", "x"]), ("3", "skipped", ["x"])],
    ids=["good", "bad input", "accident", "nothing to do"],
)
def test_only_an_accident_of_a_spark_job_is_tried_again(run, spark_connection, status, state, calls):
    assert run("tiny_spark", status=status, typed="x") == (state, len(calls), calls)


@pytest.mark.parametrize(
    ("kind", "hours_ago", "status", "ends"),
    [("scheduled", 1, 4, "AirflowRescheduleException"), ("scheduled", 7, 4, "AirflowSkipException"),
     ("scheduled", 1, 3, "AirflowSkipException"), ("backfill", 1, 4, "AirflowSkipException")],
    ids=["late file", "too late", "the log has ended", "a past day"],
)  # fmt: skip
def test_only_a_scheduled_run_waits_for_its_rows_and_only_so_long(monkeypatch, kind, hours_ago, status, ends):
    def submit(self, context):
        raise AirflowException(f"Cannot execute. Error code is: {status}.\nnothing to do: so far no row of 2022-04-24")

    monkeypatch.setattr(SparkSubmitOperator, "execute", submit)
    step = daily_dag("kuairand").get_task("build_exposures")
    run = SimpleNamespace(run_type=kind, start_date=datetime.now(UTC) - timedelta(hours=hours_ago))
    with pytest.raises(AirflowException) as raised:
        step.execute({"dag_run": run})
    assert type(raised.value).__name__ == ends
    if ends == "AirflowRescheduleException":
        assert timedelta(0) < raised.value.reschedule_date - datetime.now(UTC) < timedelta(hours=1)


def test_the_day_is_the_parameter_of_a_run_by_hand(run):
    # The logical date of such a run is now, and says nothing.
    assert run("tiny_day", datetime(2024, 1, 1, tzinfo=UTC), date="2022-04-22")[2] == ["2022-04-22"]


def test_the_day_is_the_logical_date_where_nothing_else_says_it(run):
    assert run("tiny_day", datetime(2022, 4, 23, tzinfo=UTC))[2] == ["2022-04-23"]


def test_the_day_is_the_key_of_a_partitioned_run(tiny_bag):
    template = tiny_bag.dags["tiny_day"].get_template_env().from_string(DAY)
    # Such a run has no logical date, and so no ds.
    assert template.render(partition_key="2022-04-24", params={"date": None}) == "2022-04-24"


def test_a_folder_is_read_from_the_environment_when_the_task_runs(monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    monkeypatch.delenv("MTORL_LAKE", raising=False)
    with pytest.raises(AirflowFailException, match="MTORL_LAKE"):
        setting("MTORL_LAKE")
    monkeypatch.setenv("MTORL_LAKE", "/lake")
    assert setting("MTORL_LAKE") == "/lake"


@pytest.mark.parametrize(
    ("status", "state", "called"),
    [("0", "success", ["audit", "behind", "report"]), ("2", "failed", ["audit", "report"])],
)
def test_a_teardown_runs_behind_a_failure_and_the_run_has_failed_all_the_same(
    tiny_bag, tmp_path, status, state, called
):
    """What the page of a stopped day rests on."""
    calls = tmp_path / "calls.txt"
    done = tiny_bag.dags["tiny_stopped"].test(run_conf={"calls": str(calls), "status": status, "typed": ""})
    assert done.state == state
    assert calls.read_text().splitlines() == called

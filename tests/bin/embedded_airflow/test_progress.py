"""bin/embedded_airflow/progress.py: what the screen shows of `airflow dags test`."""

import io

from bin.embedded_airflow import progress


def lines_of(*events: str) -> list[progress.Line]:
    """The lines for the screen; each task takes two seconds."""
    output = [f"2026-01-01T00:00:00Z [info     ] {event}\n" if "Exception" not in event else event for event in events]
    return list(progress.follow(output, iter(range(0, 100, 2))))


def permanent_lines(*events: str) -> list[tuple[str, bool]]:
    """The text of each line that stays on the screen, and whether it is an error."""
    return [(line.text, line.is_error) for line in lines_of(*events) if not line.temporary]


def task(name: str, state: str, *output: str) -> list[str]:
    return [
        f"[DAG TEST] starting task_id={name} map_index=-1 [airflow] loc=dag.py:1",
        "Task instance state updated    [api] new_state=running rows_affected=1",
        *output,
        f"Task instance state updated    [api] new_state={state} rows_affected=1",
        f"[DAG TEST] end task task_id={name} map_index=-1 [airflow] loc=dag.py:2",
    ]


def test_a_task_is_a_line_with_its_time():
    assert permanent_lines(*task("train", "success"), "noise") == [(f"  {'train':<24}    2 s", False)]


def test_a_dag_is_a_line_with_its_title():
    output = [f"{progress.run_line('mtorl_report_kuairand', 'the page of 2022-04-10')}\n"]
    (line,) = progress.follow(output, iter([]))
    assert line == progress.Line("mtorl_report_kuairand: the page of 2022-04-10")


def test_training_shows_each_epoch():
    epoch = "epoch 1: validation loss 1.2345 [airflow.task.hooks] loc=subprocess.py:1"
    lines = permanent_lines(*task("train", "success", epoch))
    assert lines == [("    epoch 1: validation loss 1.2345", False), (f"  {'train':<24}    2 s", False)]


def test_a_failure_is_the_entry_points_own_line():
    bad = task("audit", "failed", "airflow.sdk.exceptions.AirflowFailException: error: wrong header\n")
    assert permanent_lines(*bad) == [("error: wrong header", True)]


def test_a_failure_without_a_line_of_its_own_names_the_task_and_the_reason():
    crash = task("train", "failed", "airflow.sdk.exceptions.AirflowException: status 1: KeyError\n")
    assert permanent_lines(*crash) == [("error: train failed: status 1: KeyError", True)]


def test_a_task_that_is_tried_again_has_not_failed_and_its_reason_is_forgotten():
    first = task("train", "up_for_retry", "airflow.sdk.exceptions.AirflowException: out of memory\n")
    (retry, retry_is_error), (_, last_is_error) = permanent_lines(*first, *task("train", "success"))
    assert "trying again" in retry
    assert not retry_is_error
    assert not last_is_error


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


SPARK = "progress: writing exposures: 3 of 31 tasks [airflow.task.hooks.Spark] loc=spark_submit.py:1"


def test_the_progress_of_a_spark_job_is_one_line_that_the_end_of_the_task_replaces():
    screen = Terminal()
    events = task("build_exposures", "success", SPARK, SPARK.replace("3 of", "31 of"))
    progress.show(lines_of(*events), screen, io.StringIO())
    first, second, last = screen.getvalue().split(progress._ERASE_LINE)
    assert first == "    writing exposures: 3 of 31 tasks"
    assert second == "    writing exposures: 31 of 31 tasks"
    assert last == f"  {'build_exposures':<24}    2 s\n"


def test_an_error_is_not_appended_to_the_progress():
    screen, errors = Terminal(), io.StringIO()
    bad = task("audit", "failed", SPARK, "airflow.sdk.exceptions.AirflowFailException: error: wrong header\n")
    progress.show(lines_of(*bad), screen, errors)
    assert screen.getvalue().endswith(progress._ERASE_LINE)
    assert errors.getvalue() == "error: wrong header\n"


def test_a_file_gets_no_temporary_lines():
    screen = io.StringIO()
    progress.show(lines_of(*task("build_exposures", "success", SPARK)), screen, io.StringIO())
    assert screen.getvalue() == f"  {'build_exposures':<24}    2 s\n"

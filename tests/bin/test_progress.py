"""bin/progress.py: what the screen shows of `airflow dags test`."""

import importlib.util
import io

from checkout import ROOT

_spec = importlib.util.spec_from_file_location("progress", ROOT / "bin" / "progress.py")
progress = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(progress)


def shown(*events: str) -> list[tuple[str, bool]]:
    """What stays on the screen, and whether it tells of a failure; each task takes two seconds."""
    return [(line.text, line.failed) for line in lines_of(*events) if not line.passing]


def lines_of(*events: str):
    lines = [f"2026-01-01T00:00:00Z [info     ] {event}\n" if "Exception" not in event else event for event in events]
    return list(progress.follow(lines, iter(range(0, 100, 2))))


def task(name: str, state: str, *between: str) -> list[str]:
    return [
        f"[DAG TEST] starting task_id={name} map_index=-1 [airflow] loc=dag.py:1",
        "Task instance state updated    [api] new_state=running rows_affected=1",
        *between,
        f"Task instance state updated    [api] new_state={state} rows_affected=1",
        f"[DAG TEST] end task task_id={name} map_index=-1 [airflow] loc=dag.py:2",
    ]


def test_a_task_is_a_line_with_its_time():
    assert shown(*task("train", "success"), "noise") == [(f"  {'train':<24}    2 s", False)]


def test_training_shows_each_epoch():
    lines = shown(*task("train", "success", "epoch 1: validation loss 1.2345 [airflow.task.hooks] loc=subprocess.py:1"))
    assert lines == [("    epoch 1: validation loss 1.2345", False), (f"  {'train':<24}    2 s", False)]


def test_a_failure_is_the_entry_points_own_line():
    bad = task("audit", "failed", "airflow.sdk.exceptions.AirflowFailException: error: wrong header\n")
    assert shown(*bad) == [("error: wrong header", True)]


def test_a_failure_without_a_line_of_its_own_names_the_task_and_the_reason():
    crash = task("train", "failed", "airflow.sdk.exceptions.AirflowException: status 1: KeyError\n")
    assert shown(*crash) == [("error: train failed: status 1: KeyError", True)]


def test_an_accident_that_is_tried_again_is_no_failure_and_its_reason_is_forgotten():
    first = task("train", "up_for_retry", "airflow.sdk.exceptions.AirflowException: out of memory\n")
    (again, failed), (_, last) = shown(*first, *task("train", "success"))
    assert "trying again" in again
    assert not failed
    assert not last


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


SPARK = "progress: writing exposures: 3 of 31 tasks, 1,200,000 rows [airflow.task.hooks.Spark] loc=spark_submit.py:1"


def test_how_far_a_spark_job_is_stands_in_one_line_until_the_task_is_over():
    screen = Terminal()
    events = task("build_exposures", "success", SPARK, SPARK.replace("3 of", "31 of"))
    progress.show(lines_of(*events), screen, io.StringIO())
    first, second, left = screen.getvalue().split(progress._BACK)
    assert first == "    writing exposures: 3 of 31 tasks, 1,200,000 rows"
    assert second == "    writing exposures: 31 of 31 tasks, 1,200,000 rows"
    assert left == f"  {'build_exposures':<24}    2 s\n"


def test_a_failure_does_not_stand_behind_how_far_it_was():
    screen, errors = Terminal(), io.StringIO()
    bad = task("audit", "failed", SPARK, "airflow.sdk.exceptions.AirflowFailException: error: wrong header\n")
    progress.show(lines_of(*bad), screen, errors)
    assert screen.getvalue().endswith(progress._BACK)
    assert errors.getvalue() == "error: wrong header\n"


def test_a_file_gets_no_line_that_passes():
    screen = io.StringIO()
    progress.show(lines_of(*task("build_exposures", "success", SPARK)), screen, io.StringIO())
    assert screen.getvalue() == f"  {'build_exposures':<24}    2 s\n"

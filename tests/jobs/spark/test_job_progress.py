"""While a Spark job runs, it prints every few seconds how far it is."""

import re
import time

from jobs.spark import progress


def test_a_job_prints_its_description_and_how_far_it_is(spark, capsys, monkeypatch):
    def slowly(number):
        time.sleep(0.5)
        return number

    monkeypatch.setattr(progress, "_EVERY_S", 0.1)
    with progress.progress(spark):
        progress.describe_job(spark, "counting sheep")
        assert spark.parallelize(range(8), 8).map(slowly).count() == 8
    task_counts = re.findall(r"^progress: counting sheep: (\d) of 8 tasks", capsys.readouterr().err, re.MULTILINE)
    assert len(task_counts) > 2
    assert task_counts == sorted(task_counts)
    assert int(task_counts[-1]) > 0
    time.sleep(0.3)
    assert capsys.readouterr().err == ""  # it ends with the block


def test_no_more_lines_after_the_session_has_ended(spark, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_EVERY_S", 0.05)

    def dead(_):
        raise progress.Py4JError("the Java side has ended")

    monkeypatch.setattr(progress, "_active_stages", dead)
    with progress.progress(spark):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""

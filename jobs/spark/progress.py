"""Prints how far a Spark job is while it runs: a line on standard error every few seconds.

    progress: reading the log: 12 of 40 tasks

The first words are the job description (describe_job). bin/embedded_airflow/progress.py shows the lines of a
`make run` in place.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JError
from pyspark import SparkContext

_EVERY_S = 5.0


def describe_job(spark: SparkContext, description: str) -> None:
    """Set the description that progress lines give to the next Spark actions of this thread."""
    spark.setJobDescription(description)


@contextmanager
def progress(spark: SparkContext) -> Iterator[None]:
    """Print progress lines while the block runs. Stages shorter than _EVERY_S print none."""
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(_EVERY_S):
            try:
                lines = _active_stages(spark)
            except Py4JError:  # Spark is about to end, or Java has died; the job's own thread gets the error
                return
            for line in lines:
                print(f"progress: {line}", file=sys.stderr, flush=True)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        ended.set()
        reporter.join()


def _active_stages(spark: SparkContext) -> list[str]:
    """A line for each running stage."""
    stages = spark._jsc.sc().statusStore().activeStages()
    return [_line(stages.apply(k)) for k in range(stages.size())]


def _line(stage: Any) -> str:
    description = stage.description()
    name = description.get() if description.isDefined() else stage.name()
    return f"{name}: {stage.numCompleteTasks()} of {stage.numTasks()} tasks"

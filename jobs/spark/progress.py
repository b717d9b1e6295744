"""How far a Spark job is, while it runs: a line on standard error every few seconds.

    progress: reading the log: 12 of 40 tasks, 3,120,000 rows

What is being done is the session's job description (`doing`); rows are those that the stage has read so far, from files
or from other stages, as tasks tell them. bin/embedded_airflow/progress.py shows the lines of a `make run` in place.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

_EVERY_S = 5.0


def doing(spark: SparkSession, what: str) -> None:
    """Says what the actions from here on are for."""
    spark.sparkContext.setJobDescription(what)


@contextmanager
def progress(spark: SparkSession) -> Iterator[None]:
    """Tells while the block runs; what is over within some seconds goes untold."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(_EVERY_S):
            try:
                lines = _running(spark)
            except Py4JError:  # the session is about to end, or Java has died: whoever waits for the job is told
                return
            for line in lines:
                print(f"progress: {line}", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _running(spark: SparkSession) -> list[str]:
    """A line a stage that is at work."""
    stages = spark.sparkContext._jsc.sc().statusStore().activeStages()
    return [_line(stages.apply(k)) for k in range(stages.size())]


def _line(stage: Any) -> str:
    what = stage.description()
    rows = stage.inputRecords() + stage.shuffleReadRecords()
    name = what.get() if what.isDefined() else stage.name()
    return f"{name}: {stage.numCompleteTasks()} of {stage.numTasks()} tasks" + (f", {rows:,} rows" if rows else "")

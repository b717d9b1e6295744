"""The Spark context of the entry points. Under spark-submit, the master comes from there.

The jobs use Spark's RDDs alone: blocks of Arrow, of which Spark sees only where they go. A context starts in half the
time of a session of Spark SQL.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark import InheritableThread, SparkConf, SparkContext
from pyspark.errors import PySparkException

from jobs.spark.failures import explain_failure, first_line
from jobs.spark.progress import describe_job, progress
from schemas.errors import UserError

_PROJECT = Path(__file__).resolve().parents[2]

# Opens a context with this name: spark_context, or its replacement in a test or in shared_context.
OpenContext = Callable[[str], AbstractContextManager[SparkContext]]


@contextmanager
def spark_context(name: str) -> Iterator[SparkContext]:
    """Spark with our settings.

    Raises UserError for a failure that a person can repair, NothingToDoYet if a raw file is not complete.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    try:
        spark = SparkContext(conf=configured(SparkConf()).setAppName(name))
    except (Py4JError, PySparkException, RuntimeError, FileNotFoundError) as error:
        raise UserError(
            f"Spark does not start ({first_line(error)}): is Java 17 or 21 installed and JAVA_HOME right?"
        ) from error
    spark.setLogLevel("ERROR")
    _leave_failed_tasks_to_the_driver(spark)
    try:
        with progress(spark):
            yield spark
    except (Py4JError, PySparkException) as error:
        raise explain_failure(error) from error
    finally:
        spark.stop()


@contextmanager
def shared_context(opened: OpenContext, name: str) -> Iterator[OpenContext]:
    """One context for several builds: started by the first build that needs it, ended with the block."""
    with ExitStack() as stack:

        @cache
        def started() -> SparkContext:
            return stack.enter_context(opened(name))

        yield lambda _: nullcontext(started())


@contextmanager
def starting_workers(spark: SparkContext) -> Iterator[None]:
    """Start Python workers in the background while the block runs.

    They take seconds to start and to load Arrow and DuckDB, during which the driver can plan its first job.
    """

    def start() -> None:
        # If the workers are broken, the first job that needs one fails with the reason.
        with suppress(Py4JError, PySparkException):
            describe_job(spark, "starting workers")
            workers = spark.defaultParallelism
            spark.parallelize(range(workers), workers).foreachPartition(_load_libraries)

    thread = InheritableThread(target=start, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _load_libraries(_: Iterator[int]) -> None:
    import duckdb  # noqa: F401
    import pyarrow.compute
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401


def _leave_failed_tasks_to_the_driver(spark: SparkContext) -> None:
    """Log no traceback of a failed task: the driver gets its error and prints one line."""
    log4j = spark._jvm.org.apache.logging.log4j
    log4j.core.config.Configurator.setLevel("org.apache.spark.executor.Executor", log4j.Level.OFF)


def configured(settings: SparkConf) -> SparkConf:
    """The settings with ours, some of which suit two cores."""
    added = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",  # jobs.spark.progress prints lines that suit a log
        # Python workers import our own modules.
        "spark.executorEnv.PYTHONPATH": str(_PROJECT),
        # Arrow's default allocator returns memory to the system within ten milliseconds and requests it again for the
        # next table, which takes a worker about a second in all.
        "spark.executorEnv.ARROW_DEFAULT_MEMORY_POOL": os.environ.get("ARROW_DEFAULT_MEMORY_POOL", "jemalloc"),
    }
    # Under spark-submit the master and the addresses come from there.
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        added |= {
            "spark.master": "local[2]",
            "spark.driver.memory": os.environ.get("MTORL_DRIVER_MEMORY", "4g"),
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }
    return settings.setAll([*added.items()])

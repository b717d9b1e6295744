"""The Spark session of the entry points. Under spark-submit, the master comes from there."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from jobs.spark.failures import explain_failure, first_line
from jobs.spark.progress import progress
from schemas.errors import UserError

_PROJECT = Path(__file__).resolve().parents[2]


@contextmanager
def spark_session(name: str) -> Iterator[SparkSession]:
    """A session with the settings that results depend on.

    Raises UserError for a failure that a person can repair, NothingToDoYet if a raw file is not complete.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    try:
        spark = configured(SparkSession.builder.appName(name)).getOrCreate()
    except (Py4JError, PySparkException, RuntimeError, FileNotFoundError) as error:
        raise UserError(
            f"Spark does not start ({first_line(error)}): is Java 17 or 21 installed and JAVA_HOME right?"
        ) from error
    spark.sparkContext.setLogLevel("ERROR")
    _log_no_failed_expressions()
    _leave_failed_tasks_to_the_driver(spark)
    _use_small_file_splits(spark)
    try:
        with progress(spark):
            yield spark
    except (Py4JError, PySparkException) as error:
        raise explain_failure(error) from error
    finally:
        spark.stop()


def _log_no_failed_expressions() -> None:
    """Print no stack of Java if an expression fails on a value: the job prints one line for that error."""
    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        PySparkLogger.getLogger(name).disabled = True


def _leave_failed_tasks_to_the_driver(spark: SparkSession) -> None:
    """Log no traceback of a failed task: the driver gets its error and prints one line."""
    log4j = spark._jvm.org.apache.logging.log4j
    log4j.core.config.Configurator.setLevel("org.apache.spark.executor.Executor", log4j.Level.OFF)


def _use_small_file_splits(spark: SparkSession) -> None:
    """On one machine, read files in splits of a quarter of Spark's default size.

    On a few cores, most of them wait while the last task of a stage runs; smaller tasks make that wait shorter. A size
    that an operator has set is left unchanged, as is a cluster's default.
    """
    context, setting = spark.sparkContext, "spark.sql.files.maxPartitionBytes"
    if context.master.startswith("local") and not context.getConf().contains(setting):
        spark.conf.set(setting, "32m")


# Opens a session of this name: spark_session, or its replacement in a test or in shared_session.
Session = Callable[[str], AbstractContextManager[SparkSession]]


@contextmanager
def shared_session(session: Session, name: str) -> Iterator[Session]:
    """One session for several builds: started by the first build that needs it, ended with the block."""
    with ExitStack() as stack:

        @cache
        def started() -> SparkSession:
            return stack.enter_context(session(name))

        yield lambda _: nullcontext(started())


def configured(builder: SparkSession.Builder) -> SparkSession.Builder:
    """Settings that make results independent of the machine, or that suit two cores."""
    settings = {
        "spark.sql.session.timeZone": "UTC",
        # One wrong cell is refused with a reason (try_cast); everything else that overflows should fail loudly.
        "spark.sql.ansi.enabled": "true",
        "spark.sql.shuffle.partitions": os.environ.get("MTORL_SHUFFLE_PARTITIONS", "8"),
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.sources.partitionOverwriteMode": "static",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",  # jobs.spark.progress prints more, in lines that suit a log
        # Java does not compile longer methods: hundreds of expressions in a single one would be interpreted.
        "spark.sql.codegen.hugeMethodLimit": "8000",
        # Cached rows are read a few times and dropped: compressing them column by column takes longer than that.
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
        "spark.executor.heartbeatInterval": "5s",  # how often a running task reports the rows it has read
        "spark.sql.csv.parser.columnPruning.enabled": "false",  # a row's field count is checked on the whole row
        # Recording where each of thousands of expressions was made takes longer than planning them.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Python workers import our own modules.
        "spark.executorEnv.PYTHONPATH": str(_PROJECT),
        # Arrow's default allocator returns memory to the system within ten milliseconds and requests it again for the
        # next table, which takes a worker about a second in all.
        "spark.executorEnv.ARROW_DEFAULT_MEMORY_POOL": os.environ.get("ARROW_DEFAULT_MEMORY_POOL", "jemalloc"),
    }
    # Under spark-submit the master and the addresses come from there.
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        settings |= {
            "spark.master": "local[2]",
            "spark.driver.memory": os.environ.get("MTORL_DRIVER_MEMORY", "4g"),
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder

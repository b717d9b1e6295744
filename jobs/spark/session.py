"""The Spark session every entry point uses; under spark-submit the master comes from there."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from jobs.spark.progress import progress
from schemas.errors import UserError

_PROJECT = Path(__file__).resolve().parents[2]
_DAMAGED = ("unexpected end of input stream", "eofexception", "zipexception", "not in gzip format",
            "incorrect header check", "incorrect data check", "invalid block type", "invalid stored block",
            "invalid distance", "invalid code lengths", "crc")  # fmt: skip


@contextmanager
def spark_session(name: str, raw: Iterable[Path] = ()) -> Iterator[SparkSession]:
    """A session with the settings that results rest on; what a person can mend becomes one line.

    raw: the raw files that are read in it; Spark meets their damage only on the way to their end.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    try:
        spark = configured(SparkSession.builder.appName(name)).getOrCreate()
    except (Py4JError, PySparkException, RuntimeError, FileNotFoundError) as error:
        raise UserError(
            f"Spark does not start ({first_line(error)}): is Java 17 or 21 installed and JAVA_HOME right?"
        ) from error
    spark.sparkContext.setLogLevel("ERROR")
    _cut_files_small(spark)
    try:
        with progress(spark):
            yield spark
    except (Py4JError, PySparkException) as error:
        raise explained(error, raw) from error
    finally:
        spark.stop()


def _cut_files_small(spark: SparkSession) -> None:
    """On the cores of one machine a stage's last task is one that the others wait for: a quarter of Spark's default.

    What an operator has chosen stands, and so does a cluster's default.
    """
    context, setting = spark.sparkContext, "spark.sql.files.maxPartitionBytes"
    if context.master.startswith("local") and not context.getConf().contains(setting):
        spark.conf.set(setting, "32m")


Session = Callable[[str], AbstractContextManager[SparkSession]]  # spark_session, or what stands in for it


@contextmanager
def shared(session: Session, name: str) -> Iterator[Session]:
    """For several builds: one session, started by the first that needs one, ended with the block."""
    with ExitStack() as stack:

        @cache
        def started() -> SparkSession:
            return stack.enter_context(session(name))

        yield lambda _: nullcontext(started())


def configured(builder: SparkSession.Builder) -> SparkSession.Builder:
    """Settings that make results independent of the machine, or fit them to two cores."""
    settings = {
        "spark.sql.session.timeZone": "UTC",
        # One wrong cell is refused with a reason (try_cast); everything else that overflows should fail loudly.
        "spark.sql.ansi.enabled": "true",
        "spark.sql.shuffle.partitions": os.environ.get("MTORL_SHUFFLE_PARTITIONS", "8"),
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.sources.partitionOverwriteMode": "static",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",  # jobs.spark.progress says more, and in lines that a log can hold
        # Java compiles no method longer than this: hundreds of expressions in a single one would be interpreted.
        "spark.sql.codegen.hugeMethodLimit": "8000",
        # What is kept is read a few times and thrown away: to compress it column by column takes longer than that.
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
        "spark.executor.heartbeatInterval": "5s",  # a running task tells by then how many rows it has read
        "spark.sql.csv.parser.columnPruning.enabled": "false",  # a row's field count is checked on the whole row
        # Recording where each of some thousand expressions was made takes longer than planning them.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Python workers read our own modules.
        "spark.executorEnv.PYTHONPATH": str(_PROJECT),
        # Arrow's own default takes a second of a worker's life to get its memory from the system, and gives it back
        # after a hundredth of one, to ask for it again for the next table.
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


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def explained(error: BaseException, raw: Iterable[Path]) -> BaseException:
    """A UserError where the failure is in a raw file or on the disk; else the error itself."""
    text = str(error)
    if ours := re.search(r"schemas\.errors\.UserError: (.+)", text):  # raised in a worker process
        return UserError(ours[1])
    files = re.findall(r"file:/\S+", text)
    # A path may spell anything: marks are looked for beside the paths only.
    said = re.sub(r"file:/\S+", "", text).lower()
    if any(mark in said for mark in _DAMAGED):
        read = {path.name for path in raw}
        if found := sorted(read & {Path(unquote(file.strip("'\"().,;"))).name for file in files}):
            return UserError(f"{', '.join(found)} is cut off or damaged and cannot be read to its end: fetch it again")
    if "No space left on device" in text:
        return UserError("the disk is full: free some space, or choose another folder with LAKE=")
    if "[PATH_NOT_FOUND]" in text:
        return UserError(f"Spark cannot find {unquote(files[0].rstrip('.')) if files else 'a file'}: every machine "
                         "that runs Spark must see RAW and LAKE under these paths")  # fmt: skip
    return error

"""The two kinds of task: a Python entry point and a Spark job.

Both pass their arguments as a list, so no shell ever reads a value that somebody typed, and neither
retries a bad input: trying again cannot mend it. An argument that renders empty is left out. Where an entry
point finds nothing to do, the task is skipped, and with it what stands behind it.
"""

import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)

from schemas.errors import EXIT_NOT_YET, EXIT_NOTHING_TO_DO, EXIT_USER_ERROR

ROOT = Path(__file__).resolve().parent.parent
_LOOK_AGAIN = timedelta(minutes=10)
_NOTHING = (EXIT_NOTHING_TO_DO, EXIT_NOT_YET)


class PythonStep(BaseOperator):
    """`python -m module arguments`, in the interpreter that runs Airflow.

    Raises AirflowSkipException where the entry point ends with EXIT_NOTHING_TO_DO or EXIT_NOT_YET,
    AirflowFailException (no retry) where it ends with EXIT_USER_ERROR, AirflowException where it fails otherwise.
    The message is the last line that it printed.
    """

    template_fields = ("arguments",)
    ui_color = "#e8f0fe"

    def __init__(self, *, module: str, arguments: Sequence[str], **kwargs):
        super().__init__(**kwargs)
        self.module = module
        self.arguments = arguments
        self.hook = SubprocessHook()

    def execute(self, context: Context) -> None:
        command = [sys.executable, "-m", self.module, *filter(None, self.arguments)]
        try:
            result = self.hook.run_command(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=str(ROOT))
        finally:
            # The hook gives the command a session of its own, which Ctrl-C does not reach.
            if self.hook.sub_process is not None and self.hook.sub_process.poll() is None:
                self.hook.send_sigterm()
        if result.exit_code in _NOTHING:
            raise AirflowSkipException(result.output)
        if result.exit_code == EXIT_USER_ERROR:
            raise AirflowFailException(result.output)
        if result.exit_code != 0:
            raise AirflowException(f"{self.module} ended with status {result.exit_code}: {result.output}")

    def on_kill(self) -> None:
        self.hook.send_sigterm()


class SparkStep(SparkSubmitOperator):
    """`spark-submit job arguments` on the connection `spark`; driver and executors find `schemas` and `jobs`.

    Raises as PythonStep does. waits: for so long after a scheduled run has started, an entry point that finds nothing
    to do yet (EXIT_NOT_YET) is started again every few minutes: the task gives its slot back, and it costs no try.
    """

    ui_color = "#fff3e0"

    def __init__(self, *, job: str, arguments: Sequence[str], waits: timedelta = timedelta(0), **kwargs):
        self.waits = waits
        super().__init__(
            conn_id="spark",
            application=str(ROOT / job),
            application_args=list(arguments),
            name=Path(job).stem,
            # The UI of a job that lasts seconds would only open a port.
            conf={"spark.ui.enabled": "false", "spark.executorEnv.PYTHONPATH": str(ROOT)},
            driver_memory=os.environ.get("MTORL_DRIVER_MEMORY"),
            env_vars={"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable},
            **kwargs,
        )

    def execute(self, context: Context) -> None:
        self.application_args = [argument for argument in self.application_args or [] if argument]
        try:
            super().execute(context)
        except AirflowException as failure:
            # The hook tells the exit status of spark-submit, which is that of our entry point, in words only.
            status = re.search(r"Error code is: (\d+)\.", str(failure))
            said = re.search(r"^(error|nothing to do): .*$", str(failure), re.MULTILINE)
            line = said[0] if said else "see the log above"
            if status and int(status[1]) in _NOTHING:
                run, now = context["dag_run"], datetime.now(UTC)
                may_come = int(status[1]) == EXIT_NOT_YET and run.run_type == "scheduled"
                if may_come and now < run.start_date + self.waits:
                    raise AirflowRescheduleException(now + _LOOK_AGAIN) from failure
                raise AirflowSkipException(line) from failure
            if status and int(status[1]) == EXIT_USER_ERROR:
                raise AirflowFailException(line) from failure
            raise

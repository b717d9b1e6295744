"""The two kinds of tasks: a Python entry point and a Spark job.

Both pass their arguments as a list, so that no shell reads a value that a person has typed. An argument that renders to
an empty text is left out. A task with invalid input is not retried, because a retry cannot help. If an entry point
finds nothing to do, the task and the tasks after it are skipped.
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

from dags import alerts
from schemas.errors import ALERT, EXIT_NOT_YET, EXIT_NOTHING_TO_DO, EXIT_USER_ERROR

ROOT = Path(__file__).resolve().parent.parent
_WAIT_BETWEEN_ATTEMPTS = timedelta(minutes=10)
_NOTHING_TO_DO = (EXIT_NOTHING_TO_DO, EXIT_NOT_YET)


class PythonStep(BaseOperator):
    """`python -m module arguments`, in the interpreter that runs Airflow.

    Raises AirflowSkipException if the entry point ends with EXIT_NOTHING_TO_DO or EXIT_NOT_YET, AirflowFailException,
    which allows no retry, if it ends with EXIT_USER_ERROR, and AirflowException if it ends with any other error. The
    message is the last line that the entry point printed. If an entry point succeeds and its last line begins with
    ALERT, the line is sent to people.
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
            # The hook starts the command in a new session, which Ctrl-C does not reach.
            if self.hook.sub_process is not None and self.hook.sub_process.poll() is None:
                self.hook.send_sigterm()
        if result.exit_code in _NOTHING_TO_DO:
            raise AirflowSkipException(result.output)
        if result.exit_code == EXIT_USER_ERROR:
            raise AirflowFailException(result.output)
        if result.exit_code != 0:
            raise AirflowException(f"{self.module} ended with status {result.exit_code}: {result.output}")
        if result.output.startswith(ALERT):
            alerts.action_needed(context, result.output.removeprefix(ALERT))

    def on_kill(self) -> None:
        self.hook.send_sigterm()


class SparkStep(SparkSubmitOperator):
    """`spark-submit job arguments` on the connection `spark`. Driver and executors can import the project's packages.

    Raises the same exceptions as PythonStep. waits: how long a scheduled run waits for its rows. During this time, an
    entry point that finds nothing to do yet (EXIT_NOT_YET) is started again every few minutes. Between two attempts the
    task occupies no slot, and the attempts do not count as retries.
    """

    ui_color = "#fff3e0"

    def __init__(self, *, job: str, arguments: Sequence[str], waits: timedelta = timedelta(0), **kwargs):
        self.waits = waits
        super().__init__(
            conn_id="spark",
            application=str(ROOT / job),
            application_args=list(arguments),
            name=Path(job).stem,
            # A job that takes seconds needs no UI, which would open a port.
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
            # The exit status of our entry point is only in the text of the hook's message.
            status = re.search(r"Error code is: (\d+)\.", str(failure))
            printed_line = re.search(r"^(error|nothing to do): .*$", str(failure), re.MULTILINE)
            line = printed_line[0] if printed_line else "see the log above"
            if status and int(status[1]) in _NOTHING_TO_DO:
                run, now = context["dag_run"], datetime.now(UTC)
                may_come = int(status[1]) == EXIT_NOT_YET and run.run_type == "scheduled"
                if may_come and now < run.start_date + self.waits:
                    raise AirflowRescheduleException(now + _WAIT_BETWEEN_ATTEMPTS) from failure
                raise AirflowSkipException(line) from failure
            if status and int(status[1]) == EXIT_USER_ERROR:
                raise AirflowFailException(line) from failure
            raise

"""Turns the output of `airflow dags test` into lines for the screen: one for each DAG, task and training epoch.

On a terminal, the progress of a Spark job is shown in the last line until the next line replaces it. If a task fails
and is not tried again, the reason goes to standard error.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TextIO

_RUN_START = re.compile(r"^\[DAG RUN\] (.+)$")
_TASK_START = re.compile(r"\[DAG TEST\] starting task_id=(\S+)")
_TASK_END = re.compile(r"\[DAG TEST\] end task task_id=(\S+)")
_TASK_STATE = re.compile(r"Task instance state updated .*\bnew_state=(\w+)")
_EPOCH = re.compile(r"\bepoch \d+: validation loss [\d.]+")
_SPARK_PROGRESS = re.compile(r"\bprogress: (.+: \d+ of \d+ tasks)")
# The last line of a traceback. Its message is the last line that the entry point printed.
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?(?:Airflow\w*Exception|\w+Error): (.+)$")
_OWN_ERROR = re.compile(r"\berror: .*")
_ERASE_LINE = "\r\x1b[K"
_TERMINAL_WIDTH = 79
_LONGEST_REASON = 300


class Line(NamedTuple):
    """A line for the screen. temporary: the next line replaces it."""

    text: str
    is_error: bool = False
    temporary: bool = False


def run_line(dag: str, title: str) -> str:
    """The line of the output with which a DAG's run begins."""
    return f"[DAG RUN] {dag}: {title}"


def follow(output: Iterable[str], clock: Iterator[float]) -> Iterator[Line]:
    """The lines for the screen. clock: seconds, read at the start and the end of each task."""
    task, started_s, state, reason = "", 0.0, "", ""
    for line in output:
        if match := _RUN_START.match(line):
            yield Line(match[1])
        elif match := _TASK_START.search(line):
            task, started_s, state, reason = match[1], next(clock), "", ""
        elif match := _EPOCH.search(line):
            yield Line(f"    {match[0]}")
        elif match := _SPARK_PROGRESS.search(line):
            yield Line(f"    {match[1]}", temporary=True)
        elif match := _TASK_STATE.search(line):
            state = match[1]
        elif match := _EXCEPTION.match(line):
            reason = match[1]
        elif _TASK_END.search(line):
            yield _finished_task(task, next(clock) - started_s, state, reason)


def _finished_task(task: str, seconds: float, state: str, reason: str) -> Line:
    if state == "success":
        return Line(f"  {task:<24} {seconds:4.0f} s")
    if state == "up_for_retry":
        return Line(f"  {task:<24} {seconds:4.0f} s, failed: trying again")
    own_error = _OWN_ERROR.search(reason)
    if own_error:
        return Line(own_error[0], is_error=True)
    return Line(f"error: {task} failed: {reason[:_LONGEST_REASON] or 'no reason given'}", is_error=True)


def show(lines: Iterable[Line], screen: TextIO, errors: TextIO) -> None:
    """Write the lines. Temporary ones only to a terminal: in a file they would all stay."""
    must_erase = False
    for line in lines:
        if must_erase:
            screen.write(_ERASE_LINE)
        must_erase = line.temporary and screen.isatty()
        if must_erase:
            screen.write(line.text[:_TERMINAL_WIDTH])
        elif not line.temporary:
            print(line.text, file=errors if line.is_error else screen, flush=True)
        screen.flush()
    if must_erase:
        screen.write(_ERASE_LINE)

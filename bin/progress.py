"""Follows `airflow dags test` on standard input: everything into a log, a line a task and epoch on the screen.

Usage: airflow dags test ... 2>&1 | python bin/progress.py LOG. On a terminal, how far a Spark job is stands in the last
line until something else does. Where a task fails for good, its reason is the last line, on standard error.
"""

import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

_START = re.compile(r"\[DAG TEST\] starting task_id=(\S+)")
_END = re.compile(r"\[DAG TEST\] end task task_id=(\S+)")
_EPOCH = re.compile(r"\bepoch \d+: validation loss [\d.]+")
_PROGRESS = re.compile(r"\bprogress: (.+: \d+ of \d+ tasks(?:, [\d,]+ rows)?)")
_STATE = re.compile(r"Task instance state updated .*\bnew_state=(\w+)")
_BACK = "\r\x1b[K"  # to the line's beginning, and what stands there away
# The last line of a traceback: the message of the operator, which is the entry point's own last word.
_REASON = re.compile(r"^(?:[\w.]+\.)?(?:Airflow\w*Exception|\w+Error): (.+)$")


class Line(NamedTuple):
    """A line for the screen. failed: it tells of a failure. passing: the next line takes its place."""

    text: str
    failed: bool = False
    passing: bool = False


def follow(lines: Iterable[str], clock: Iterator[float]) -> Iterator[Line]:
    """The lines for the screen. clock: seconds, read at each task's ends."""
    task, started, state, reason = "", 0.0, "", ""
    for line in lines:
        if found := _START.search(line):
            task, started, state, reason = found[1], next(clock), "", ""
        elif found := _EPOCH.search(line):
            yield Line(f"    {found[0]}")
        elif found := _PROGRESS.search(line):
            yield Line(f"    {found[1]}", passing=True)
        elif found := _STATE.search(line):
            state = found[1]
        elif found := _REASON.match(line):
            reason = found[1]
        elif found := _END.search(line):
            seconds = next(clock) - started
            if state == "success":
                yield Line(f"  {task:<24} {seconds:4.0f} s")
            elif state == "up_for_retry":
                yield Line(f"  {task:<24} {seconds:4.0f} s, failed: trying again")
            else:
                yield Line(_as_error(task, reason), failed=True)
            task = ""


def _as_error(task: str, reason: str) -> str:
    """An entry point's own `error: ...`, or that the task failed, and why."""
    own = re.search(r"\berror: .*", reason)
    return own[0] if own else f"error: {task} failed: {reason[:300] or 'no reason given'}"


def show(lines: Iterable[Line], screen: TextIO, errors: TextIO) -> None:
    """Passing lines are for a terminal alone: in a file each would stay."""
    passing = False
    for line in lines:
        if passing:
            screen.write(_BACK)
        passing = line.passing and screen.isatty()
        if passing:
            screen.write(line.text[:79])
        elif not line.passing:
            print(line.text, file=errors if line.failed else screen, flush=True)
        screen.flush()
    if passing:
        screen.write(_BACK)


def main() -> None:
    clock = iter(time.monotonic, None)
    with Path(sys.argv[1]).open("a") as log:

        def logged() -> Iterator[str]:
            for line in sys.stdin:
                log.write(line)
                log.flush()
                yield line

        show(follow(logged(), clock), sys.stdout, sys.stderr)


if __name__ == "__main__":
    main()

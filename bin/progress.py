"""Follows `airflow dags test` on standard input: everything into a log, a line a task and epoch on the screen.

Usage: airflow dags test ... 2>&1 | python bin/progress.py LOG. Where a task fails for good, its reason is the
last line, on standard error.
"""

import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_START = re.compile(r"\[DAG TEST\] starting task_id=(\S+)")
_END = re.compile(r"\[DAG TEST\] end task task_id=(\S+)")
_EPOCH = re.compile(r"\bepoch \d+: validation loss [\d.]+")
_STATE = re.compile(r"Task instance state updated .*\bnew_state=(\w+)")
# The last line of a traceback: the message of the operator, which is the entry point's own last word.
_REASON = re.compile(r"^(?:[\w.]+\.)?(?:Airflow\w*Exception|\w+Error): (.+)$")


def follow(lines: Iterable[str], clock: Iterator[float]) -> Iterator[tuple[str, bool]]:
    """The lines for the screen, each with whether it tells of a failure. clock: seconds, read at each task's ends."""
    task, started, state, reason = "", 0.0, "", ""
    for line in lines:
        if found := _START.search(line):
            task, started, state, reason = found[1], next(clock), "", ""
        elif found := _EPOCH.search(line):
            yield f"    {found[0]}", False
        elif found := _STATE.search(line):
            state = found[1]
        elif found := _REASON.match(line):
            reason = found[1]
        elif found := _END.search(line):
            seconds = next(clock) - started
            if state == "success":
                yield f"  {task:<24} {seconds:4.0f} s", False
            elif state == "up_for_retry":
                yield f"  {task:<24} {seconds:4.0f} s, failed: trying again", False
            else:
                yield _as_error(task, reason), True
            task = ""


def _as_error(task: str, reason: str) -> str:
    """An entry point's own `error: ...`, or that the task failed, and why."""
    own = re.search(r"\berror: .*", reason)
    return own[0] if own else f"error: {task} failed: {reason[:300] or 'no reason given'}"


def main() -> None:
    clock = iter(time.monotonic, None)
    with Path(sys.argv[1]).open("a") as log:

        def logged() -> Iterator[str]:
            for line in sys.stdin:
                log.write(line)
                log.flush()
                yield line

        for text, failed in follow(logged(), clock):
            print(text, file=sys.stderr if failed else sys.stdout, flush=True)


if __name__ == "__main__":
    main()

"""Failures in Spark that a person can repair, as errors of one line.

A failure is recognised by its class or its error number, never by words in its text.
"""

import errno
import os
import re
from collections.abc import Iterator
from typing import Any

from schemas.errors import Busy, NothingToDoYet, Unreachable, UserError

_FOR_A_PERSON = {f"{kind.__module__}.{kind.__name__}": kind for kind in (UserError, Busy, Unreachable, NothingToDoYet)}
_IN_A_WORKER = "org.apache.spark.api.python.PythonException"
_OF_A_DEAD_WORKER = "java.io.EOFException"  # Java has read to the end of the output of the worker
_OF_THE_MEMORY = ("MemoryError", "pyarrow.lib.ArrowMemoryError")
_OF_THE_DISK = ("java.io.IOException", "java.io.FileNotFoundException")
_ERROR_NUMBER = re.compile(r"\[Errno (\d+)\] ")


def explain_failure(error: BaseException) -> BaseException:
    """A UserError or NothingToDoYet if a worker has raised one or the disk is the cause; otherwise the error itself."""
    for java_error in _java_errors(error):
        if explained := _explained(java_error):
            return explained
    return error


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _java_errors(error: BaseException) -> Iterator[Any]:
    """The error of Java behind this one, and its causes."""
    java_error = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    while java_error is not None:
        yield java_error
        java_error = java_error.getCause()


def _explained(java_error: Any) -> BaseException | None:
    kind = java_error.getClass().getName()
    if kind == _IN_A_WORKER:
        return _raised_in_worker(java_error.getMessageParameters().get("traceback") or "")
    # Java keeps no error number: the text of a full disk is the system's own, and the whole message.
    if kind == _OF_A_DEAD_WORKER:
        return _no_memory()
    if kind in _OF_THE_DISK and java_error.getMessage() == os.strerror(errno.ENOSPC):
        return _full_disk()
    return None


def _raised_in_worker(traceback: str) -> BaseException | None:
    """The error that a Python worker has raised. Python ends a traceback with `<module>.<class>: <message>`."""
    name, _, message = (traceback.strip().splitlines() or [""])[-1].partition(": ")
    if name in _FOR_A_PERSON:
        return _FOR_A_PERSON[name](message)
    if name in _OF_THE_MEMORY:
        return _no_memory()
    number = _ERROR_NUMBER.match(message) if name == OSError.__name__ else None
    return _full_disk() if number and int(number[1]) == errno.ENOSPC else None


def _full_disk() -> UserError:
    return UserError(
        "the disk is full: free some space, or choose another folder: for the lake with LAKE=, for work files with "
        "MTORL_SCRATCH, for what Spark sends with SPARK_LOCAL_DIRS"
    )


def _no_memory() -> UserError:
    return UserError(
        "a Python worker of Spark has ended, most often because the machine has too little memory for the rows of one "
        "task: close other programs, let fewer tasks run at once (SPARK_MASTER=local[1]), or build fewer days in a run"
    )

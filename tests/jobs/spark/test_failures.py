"""Failures in Spark that a person can repair become one line."""

import errno
import os

import pytest
from pyspark.errors import PySparkException

from jobs.spark.failures import explain_failure
from schemas.errors import NothingToDoYet, UserError

_IN_A_WORKER = "org.apache.spark.api.python.PythonException"


class JavaError:
    """An error of Java, as py4j shows it."""

    def __init__(self, kind, message="", cause=None, parameters=None):
        self.kind, self.message, self.cause, self.parameters = kind, message, cause, parameters

    def getClass(self):
        return self

    def getName(self):
        return self.kind

    def getMessage(self):
        return self.message

    def getCause(self):
        return self.cause

    def getMessageParameters(self):
        return self.parameters


def spark_error(cause):
    """A job that Spark has aborted, with the cause that a task has reported."""
    error = PySparkException("Job aborted")
    error.java_exception = JavaError("org.apache.spark.SparkException", "Job aborted", cause)
    return error


def in_worker(last_line):
    traceback = f"Traceback (most recent call last):\n  File ...\n{last_line}\n"
    return spark_error(JavaError(_IN_A_WORKER, parameters={"msg": "", "traceback": traceback}))


@pytest.mark.parametrize("kind", [UserError, NothingToDoYet])
def test_an_error_that_a_worker_raises_for_a_person_stays_the_same(kind):
    error = explain_failure(in_worker(f"schemas.errors.{kind.__name__}: log: 1.csv.gz is cut off or damaged"))
    assert type(error) is kind
    assert str(error) == "log: 1.csv.gz is cut off or damaged"


@pytest.mark.parametrize(
    "line",
    [
        "ValueError: schemas.errors.UserError: a text of the log",
        f"ValueError: [Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}",
        "OSError: no number",
    ],
)
def test_a_text_of_the_log_is_no_diagnosis(line):
    assert explain_failure(error := in_worker(line)) is error


def test_any_other_error_is_unchanged_and_may_be_tried_again():
    for error in (PySparkException("java.io.EOFException at PythonRunner"), in_worker("")):
        assert explain_failure(error) is error


@pytest.mark.parametrize(
    "error",
    [
        spark_error(JavaError("java.io.IOException", os.strerror(errno.ENOSPC))),
        in_worker(f"OSError: [Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}: '/lake/x'"),
    ],
)
def test_a_full_disk(error):
    assert "the disk is full" in str(explain_failure(error))


@pytest.mark.parametrize("line", ["MemoryError", "pyarrow.lib.ArrowMemoryError: malloc of size 9 failed"])
def test_a_worker_without_memory_is_one_line(line):
    assert "too little memory" in str(explain_failure(in_worker(line)))


def test_a_worker_that_was_killed_is_one_line():
    end_of_stream = JavaError("java.io.EOFException")
    error = explain_failure(spark_error(JavaError("org.apache.spark.SparkException", "crashed", end_of_stream)))
    assert type(error) is UserError
    assert "too little memory" in str(error)

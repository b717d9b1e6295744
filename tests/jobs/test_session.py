"""What a failure in Spark means to the person at the keyboard."""

from pathlib import Path

import pytest
from pyspark.errors import PySparkException

from jobs.session import explained
from schemas.errors import UserError

RAW = [Path("/raw/my logs/log_random_1.csv"), Path("/raw/my logs/users.csv.gz")]
READING = "[FAILED_READ_FILE.NO_HINT] Encountered error while reading file file:///{}."


@pytest.mark.parametrize(
    "cause",
    ["java.io.EOFException: Unexpected end of input stream", "incorrect data check", "stored gzip CRC mismatch"],
)
def test_a_damaged_raw_file_is_named(cause):
    text = READING.format("raw/my%20logs/users.csv.gz") + f" Caused by: {cause}"
    found = explained(PySparkException(text), RAW)
    assert isinstance(found, UserError)
    assert str(found).startswith("users.csv.gz is cut off or damaged")


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        # A lake's file, in a job that reads raw files and in one that does not.
        (READING.format("lake/exposures/0-part.parquet") + " EOFException", RAW),
        (READING.format("lake/exposures/0-part.parquet") + " EOFException", ()),
        # A worker that went away.
        ("java.io.EOFException at PythonRunner", RAW),
        # The mark is in the path, not in what went wrong.
        (READING.format("raw/crc/users.csv.gz") + " Connection reset", [Path("/raw/crc/users.csv.gz")]),
    ],
)
def test_all_else_stays_what_it_is_and_may_be_tried_again(text, raw):
    error = PySparkException(text)
    assert explained(error, raw) is error


def test_a_path_that_spark_cannot_see():
    text = "[PATH_NOT_FOUND] Path does not exist: file:/nfs/my%20lake/exposures. SQLSTATE: 42K03"
    assert str(explained(PySparkException(text), ())) == (
        "Spark cannot find file:/nfs/my lake/exposures: every machine that runs Spark must see RAW and LAKE under "
        "these paths"
    )


def test_a_full_disk():
    assert "the disk is full" in str(explained(PySparkException("java.io.IOException: No space left on device"), ()))

"""bin/check_input.py: wrong values are refused before any work."""

import subprocess
import sys

import pytest
from checkout import ROOT

from bin.check_input import check_days
from schemas.errors import UserError

LOG = ("2022-04-08", "2022-04-30")


@pytest.mark.parametrize(("first", "last"), [LOG, ("2022-04-09", "2022-04-09")])
def test_days_of_the_log_pass(first, last):
    check_days(first, last, *LOG)


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("yesterday", "2022-04-09", "not a day"),
        ("2022-04-10", "2022-04-09", "empty"),
        ("2022-04-07", "2022-04-09", "2022-04-07 is outside the log, which covers 2022-04-08 to 2022-04-30"),
        ("2022-04-08", "2022-05-01", "2022-05-01 is outside the log"),
    ],
)
def test_other_days_are_refused(first, last, message):
    with pytest.raises(UserError, match=message):
        check_days(first, last, *LOG)


@pytest.mark.parametrize(("name", "status"), [("kuairand", 0), ("nothing", 2)])
def test_the_exit_status_is_that_of_an_entry_point(name, status):
    command = [sys.executable, "-m", "bin.check_input", "dataset", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith("error: unknown dataset")) == (status, status != 0)

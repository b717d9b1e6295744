"""Checks the values that a person typed, before any work begins.

    python -m bin.check_input dataset NAME
    python -m bin.check_input days FROM TO FIRST LAST     FIRST and LAST are the first and the last day of the log

Exit status 2 and one line on standard error if a value is wrong.
"""

import sys

from schemas.dataset import get_dataset
from schemas.days import days_between
from schemas.errors import UserError, exit_with_one_line


def check_days(first: str, last: str, log_first: str, log_last: str) -> None:
    """Raise a UserError unless `first` to `last` are days in order, all of them in the log."""
    days_between(first, last)
    for day in (first, last):
        if not log_first <= day <= log_last:
            raise UserError(f"{day} is outside the log, which covers {log_first} to {log_last}")


CHECKS = {"dataset": get_dataset, "days": check_days}


if __name__ == "__main__":
    name, *values = sys.argv[1:]
    exit_with_one_line(lambda: CHECKS[name](*values))

"""Checks the values that a person typed, before any work begins.

    python -m bin.check_input dataset NAME
    python -m bin.check_input methods NAME[,NAME]
    python -m bin.check_input days FROM TO FIRST LAST     FIRST and LAST are the first and the last day of the log

Exit status 2 and one line on standard error if a value is wrong.
"""

import re
import sys

from schemas.dataset import get_dataset
from schemas.days import days_between
from schemas.errors import UserError, exit_with_one_line

_METHOD_NAME = r"[a-z][a-z0-9_]{0,63}"


def check_days(first: str, last: str, log_first: str, log_last: str) -> None:
    """Raise a UserError unless `first` to `last` are days in order, all of them in the log."""
    days_between(first, last)
    for day in (first, last):
        if not log_first <= day <= log_last:
            raise UserError(f"{day} is outside the log, which covers {log_first} to {log_last}")


def check_methods(methods: str) -> None:
    """Raise a UserError unless these can be names of methods. Which methods exist is known to the entry points."""
    if not re.fullmatch(f"{_METHOD_NAME}(,{_METHOD_NAME})*", methods):
        raise UserError(f"METHOD is one method or several, separated by commas (mtorl,rmtl), not '{methods}'")


CHECKS = {"dataset": get_dataset, "methods": check_methods, "days": check_days}


if __name__ == "__main__":
    name, *values = sys.argv[1:]
    exit_with_one_line(lambda: CHECKS[name](*values))

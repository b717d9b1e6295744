"""Errors that end a command with one clear line instead of a traceback, and the exit status of each."""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout

from schemas.printable import PrintableStream, printable_lines

# The last line of an entry point that succeeds but asks people to act begins with this; Airflow's task sends it.
ALERT = "alert: "


class UserError(Exception):
    """A problem that the user can solve. The message names the problem, the place, and a way to solve it."""


class Busy(UserError):
    """Another run is working on the same data. A later attempt may succeed."""


class Unreachable(UserError):
    """A store of the lake or of the raw log does not answer. A later attempt may succeed."""


class NothingToDo(Exception):
    """The log does not have the requested day. This is not a failure."""


class NothingToDoYet(NothingToDo):
    """The requested day follows shortly after the end of the log, so its rows may be delivered later."""


EXIT_USER_ERROR = 2
EXIT_NOTHING_TO_DO = 3
EXIT_NOT_YET = 4
EXIT_TRY_AGAIN = 1

# These failures remain until the user solves them. All other failures of a disk or a network may be temporary.
_USER_MUST_SOLVE = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
)


def exit_with_one_line(main: Callable[[], None]) -> None:
    """Run an entry point; a UserError or an OSError becomes one line on stderr.

    The exit status is 2 if the user has to solve the problem, 1 if a later attempt may succeed, 3 if there is nothing
    to do, and 4 if there is nothing to do yet. With MTORL_DEBUG=1 the traceback is shown. Printed text
    contains no control characters.
    """
    try:
        with redirect_stdout(PrintableStream(sys.stdout)):
            main()
    except NothingToDo as reason:
        print(f"nothing to do: {printable_lines(str(reason))}")
        sys.exit(EXIT_NOT_YET if isinstance(reason, NothingToDoYet) else EXIT_NOTHING_TO_DO)
    except (UserError, OSError) as error:
        if os.environ.get("MTORL_DEBUG") == "1":
            raise
        status = EXIT_TRY_AGAIN if isinstance(error, Busy | Unreachable) else EXIT_USER_ERROR
        message = " ".join(str(error).split())
        if isinstance(error, OSError):
            message = f"{error.filename or 'the disk'}: {error.strerror or message}"
            if error.errno not in _USER_MUST_SOLVE:
                status = EXIT_TRY_AGAIN
        print(f"error: {printable_lines(message)}", file=sys.stderr)
        sys.exit(status)

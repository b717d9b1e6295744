"""One clear line for a person instead of a traceback."""

import errno
import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the person at the keyboard can mend: the message says what, where and what to do."""


class Busy(UserError):
    """Another run is at it: trying again later helps."""


class NothingToDo(Exception):
    """The day asked for is none of the log's: no failure."""


class NothingToDoYet(NothingToDo):
    """The log has got nearly as far as the day asked for: its rows may still come."""


EXIT_USER_ERROR = 2
EXIT_NOTHING_TO_DO = 3
EXIT_NOT_YET = 4
EXIT_TRY_AGAIN = 1

# What stays as it is until somebody mends it. All other failures of the disk or the network may pass.
_FOR_A_PERSON = (
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

    The exit status is 2 where a person has to mend something, 1 where trying again may help, 3 where there is
    nothing to do, 4 where there is nothing to do yet. MTORL_DEBUG=1 shows the traceback as well.
    """
    try:
        main()
    except NothingToDo as reason:
        print(f"nothing to do: {reason}")
        sys.exit(EXIT_NOT_YET if isinstance(reason, NothingToDoYet) else EXIT_NOTHING_TO_DO)
    except (UserError, OSError) as error:
        if os.environ.get("MTORL_DEBUG") == "1":
            raise
        status = EXIT_TRY_AGAIN if isinstance(error, Busy) else EXIT_USER_ERROR
        message = " ".join(str(error).split())
        if isinstance(error, OSError):
            message = f"{error.filename or 'the disk'}: {error.strerror or message}"
            if error.errno not in _FOR_A_PERSON:
                status = EXIT_TRY_AGAIN
        print(f"error: {message}", file=sys.stderr)
        sys.exit(status)

"""One clear line for a person instead of a traceback."""

import errno
import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the person at the keyboard can mend: the message says what, where and what to do."""


EXIT_USER_ERROR = 2
EXIT_TRY_AGAIN = 1

# What stays as it is until somebody mends it. All other failures of the disk or the network may pass.
_FOR_A_PERSON = (
    errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.ENOTDIR,
)  # fmt: skip


def exit_with_one_line(main: Callable[[], None]) -> None:
    """Run an entry point; a UserError or an OSError becomes one line on stderr.

    The exit status is 2 where a person has to mend something, 1 where trying again may help.
    MTORL_DEBUG=1 shows the traceback as well.
    """
    try:
        main()
    except (UserError, OSError) as error:
        if os.environ.get("MTORL_DEBUG") == "1":
            raise
        status = EXIT_USER_ERROR
        message = " ".join(str(error).split())
        if isinstance(error, OSError):
            message = f"{error.filename or 'the disk'}: {error.strerror or message}"
            if error.errno not in _FOR_A_PERSON:
                status = EXIT_TRY_AGAIN
        print(f"error: {message}", file=sys.stderr)
        sys.exit(status)

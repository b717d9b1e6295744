"""One clear line for a person instead of a traceback."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the person at the keyboard can mend: the message says what, where and what to do."""


EXIT_USER_ERROR = 2


def exit_with_one_line(main: Callable[[], None]) -> None:
    """Run an entry point; a UserError or a refused write becomes one line on stderr and exit status 2.

    MTORL_DEBUG=1 shows the traceback as well.
    """
    try:
        main()
    except (UserError, PermissionError, OSError) as error:
        if os.environ.get("MTORL_DEBUG") == "1":
            raise
        if isinstance(error, OSError) and not isinstance(error, UserError):
            where = error.filename or "the disk"
            message = f"{where}: {error.strerror or error}"
        else:
            message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)

"""An entry point for tests: appends its arguments to a file and ends with the given status.

With the status `alert` it succeeds and asks people to act.
"""

import sys
from pathlib import Path

calls, status, *arguments = sys.argv[1:]
with Path(calls).open("a") as file:
    print(*arguments, sep="|", file=file)
if status == "alert":
    print("alert: a full training is due")
    status = "0"
if status == "3":
    print("nothing to do: no such day")
elif status != "0":
    print("error: wrong header", file=sys.stderr)
sys.exit(int(status))

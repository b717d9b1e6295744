"""An entry point for tests: appends its arguments to a file and ends with the given status."""

import sys
from pathlib import Path

calls, status, *arguments = sys.argv[1:]
with Path(calls).open("a") as file:
    print(*arguments, sep="|", file=file)
if status == "3":
    print("nothing to do: no such day")
elif status != "0":
    print("error: wrong header", file=sys.stderr)
sys.exit(int(status))

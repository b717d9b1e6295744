"""Tells bin/setup.sh about the Python that runs this file, which may be any Python 3.

python bin/interpreter.py check 3.11     exit status 0 if it has this version or a newer one, and can make virtual
                                         environments
python bin/interpreter.py identity       prints its version and the folder that it is installed in
"""

import os
import sys


def can_make_environments(minimum: str) -> bool:
    if sys.version_info < tuple(int(part) for part in minimum.split(".")):
        return False
    try:
        import ensurepip  # noqa: F401 - Debian packages it apart from Python
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def identity() -> str:
    return " ".join([*map(str, sys.version_info[:2]), os.path.realpath(sys.prefix)])


def main(arguments: "list[str]") -> int:
    if arguments[0] == "check":
        return 0 if can_make_environments(arguments[1]) else 1
    print(identity())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

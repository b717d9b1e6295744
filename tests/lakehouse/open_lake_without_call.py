"""Opens a lake in a process for which the kernel refuses one system call, as some file systems do.

Arguments: the lake, `lock` or `stage`, the number of the call, the position and the value of the argument for which it
is refused, and the name of the error. The filter is a seccomp program for Linux on x86-64.
"""

import ctypes
import errno
import struct
import sys
from pathlib import Path

from lakehouse.lake import Lake
from lakehouse.locks import locked
from lakehouse.scratch import work_folder
from schemas.errors import exit_with_one_line

# From linux/filter.h and linux/seccomp.h.
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE_WITH = 0x7FFF0000, 0x00050000
CALL_OFFSET, ARGUMENTS_OFFSET = 0, 16
# From sys/prctl.h.
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)


def refuse(call: int, argument: int, value: int, error: int) -> None:
    """From now on this process gets `error` for the call if its argument has the value."""
    program = b"".join(
        [
            instruction(LOAD_WORD, CALL_OFFSET),
            instruction(JUMP_IF_EQUAL, call, if_false=3),
            instruction(LOAD_WORD, ARGUMENTS_OFFSET + 8 * argument),
            instruction(JUMP_IF_EQUAL, value, if_false=1),
            instruction(RETURN, REFUSE_WITH | error),
            instruction(RETURN, ALLOW),
        ]
    )
    steps = ctypes.create_string_buffer(program)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    seccomp_filter = struct.pack("H6xP", len(program) // 8, ctypes.addressof(steps))
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, seccomp_filter) == 0, ctypes.get_errno()


def main() -> None:
    root, way, call, argument, value, error = sys.argv[1:]
    refuse(int(call), int(argument), int(value), getattr(errno, error))
    lake = Lake(Path(root))
    with locked(lake, ["journeys"], "criteo", ["2017-01-01"]) if way == "lock" else work_folder():
        print("works")


if __name__ == "__main__":
    exit_with_one_line(main)

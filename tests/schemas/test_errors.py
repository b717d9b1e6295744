"""A failure is reported in one line. Its exit status shows whether the user has to solve the problem."""

import errno
import os

import pytest

from schemas.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR, UserError, exit_with_one_line

USER_MUST_SOLVE = {"EACCES", "EPERM", "ENOSPC", "EROFS", "ENOENT", "ENOTDIR", "EDQUOT"}


@pytest.mark.parametrize("name", sorted(USER_MUST_SOLVE | {"EIO", "ESTALE", "ETIMEDOUT", "EMFILE", "ECONNRESET"}))
def test_only_a_failure_that_the_user_must_solve_is_not_tried_again(name, capsys, monkeypatch):
    monkeypatch.delenv("MTORL_DEBUG", raising=False)
    code = getattr(errno, name)
    expected = EXIT_USER_ERROR if name in USER_MUST_SOLVE else EXIT_TRY_AGAIN
    assert failure(OSError(code, os.strerror(code), "/lake/part")) == expected
    assert capsys.readouterr().err == f"error: /lake/part: {os.strerror(code)}\n"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("no such\nfolder"), EXIT_USER_ERROR, "error: no such folder\n"),
        (OSError("Couldn't deserialize thrift"), EXIT_TRY_AGAIN, "error: the disk: Couldn't deserialize thrift\n"),
    ],
)
def test_one_line(error, status, line, capsys, monkeypatch):
    monkeypatch.delenv("MTORL_DEBUG", raising=False)
    assert failure(error) == status
    assert capsys.readouterr().err == line


def test_a_traceback_on_demand(monkeypatch):
    monkeypatch.setenv("MTORL_DEBUG", "1")
    with pytest.raises(OSError, match="broken"):
        failure(OSError("broken"))


def failure(error: Exception) -> int | str | None:
    """The exit status of an entry point that raises this error."""

    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as exit_info:
        exit_with_one_line(main)
    return exit_info.value.code

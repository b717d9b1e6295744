"""The scratch folder: caches that are local to a machine and can be made again. A lake never refers to it.

The environment variable MTORL_SCRATCH names it; the default is the folder for caches of the XDG Base Directory
Specification, ~/.cache/mtorl.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import UserError

_PURPOSE = re.compile(r"[a-z][a-z0-9_]*")


def scratch_folder(purpose: str) -> Path:
    """The absolute path of the scratch folder of a purpose, such as "models". The folder is created.

    Raises UserError if the folder cannot be created.
    """
    if not _PURPOSE.fullmatch(purpose):
        raise ValueError(f"not a purpose of a scratch folder: {purpose!r}")
    folder = scratch_root() / purpose
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create the scratch folder {folder} ({error.strerror}): set MTORL_SCRATCH to a folder for caches "
            "that can be written"
        ) from None
    return folder


@contextmanager
def work_folder() -> Iterator[Path]:
    """An empty folder for files that are not complete yet. It is removed at the end."""
    with tempfile.TemporaryDirectory(dir=scratch_folder("work"), prefix=f"{os.getpid()}-") as folder:
        yield Path(folder)


def scratch_root() -> Path:
    """The folder of all scratch folders, which may not exist yet."""
    if named := os.environ.get("MTORL_SCRATCH"):
        return Path(named).expanduser().absolute()
    cache_home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The specification ignores a relative path.
    return (cache_home if cache_home.is_absolute() else Path.home() / ".cache") / "mtorl"

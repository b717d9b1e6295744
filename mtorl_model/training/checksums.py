"""Checksums of the files in a folder: stored in the same folder, and compared before a file is used."""

import json
from collections.abc import Sequence
from pathlib import Path

from lakehouse.storage.files import file_sha256
from schemas.errors import UserError

CHECKSUMS = "checksums.json"  # SHA-256 of each file, by its name


def write_checksums(folder: Path, names: Sequence[str]) -> None:
    """Write the checksums of these files of the folder."""
    checksums = {name: file_sha256(folder / name) for name in sorted(names)}
    (folder / CHECKSUMS).write_text(json.dumps(checksums, indent=1) + "\n")


def require_unchanged(folder: Path, names: Sequence[str], advice: str) -> None:
    """Compare these files with their checksums. Raises UserError, which ends in the advice, at the first difference.

    A file that is missing or has no checksum is a difference, too.
    """
    if difference := first_difference(folder, names, str(folder)):
        raise UserError(f"{difference}: {advice}")


def first_difference(folder: Path, names: Sequence[str], shown: str) -> str:
    """The first difference between these files and their checksums, as text, or "". shown: the folder in that text."""
    if missing := [name for name in (CHECKSUMS, *names) if not (folder / name).is_file()]:
        return f"{shown} lacks {', '.join(missing)}"
    try:
        checksums = json.loads((folder / CHECKSUMS).read_text())
        changed = [name for name in names if checksums[name] != file_sha256(folder / name)]
        if not checksums or not isinstance(checksums, dict):
            changed = [CHECKSUMS]
    except (ValueError, KeyError, TypeError):
        changed = [CHECKSUMS]
    return f"{shown}/{changed[0]} is damaged, it is not what was written" if changed else ""


def checked_names(folder: Path) -> list[str]:
    """The names of the files of a folder that have a checksum; none if the checksums are missing or damaged."""
    try:
        return sorted(json.loads((folder / CHECKSUMS).read_text()))
    except (OSError, ValueError, TypeError):
        return []

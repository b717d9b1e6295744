"""Old files of one kind, and their removal."""

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass

from lakehouse.retention import DAY_S
from lakehouse.storage.files import is_local
from lakehouse.storage.stored_files import StoredFile


@dataclass(frozen=True, slots=True)
class Removal:
    """Files, or whole folders of caches, of one kind that were not used for `days` days."""

    kind: str
    days: int
    files: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def line(self, *, dry_run: bool) -> str:
        verb = "would remove" if dry_run else "removed"
        return f"{verb} {len(self.files):,} {self.kind}, unused for {self.days} days: {megabytes(self.size)}"

    def remove(self) -> None:
        """Remove them. A file that was changed since it was listed stays."""
        for file in self.files:
            if is_local(file.path) and file.path.is_dir():
                shutil.rmtree(file.path, ignore_errors=True)  # another process may remove the same
            elif file.path.exists() and file.path.stat().st_mtime <= file.used_at:
                file.path.unlink(missing_ok=True)


def unused(kind: str, files: Iterable[StoredFile], days: int) -> Removal:
    """The removal of those of the files that were not used for `days` days."""
    oldest = time.time() - days * DAY_S
    return Removal(kind, days, tuple(file for file in files if file.used_at < oldest))


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"

"""Finds what can be removed from this machine: unused caches, work folders of killed jobs, logs of Airflow."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from jobs.maintain.removal import Removal, unused
from lakehouse.retention import RETENTION
from lakehouse.storage.data_files import COPIES
from lakehouse.storage.scratch import scratch_root
from lakehouse.storage.stored_files import StoredFile, files_below

# By the purpose of the scratch folder. All other purposes are caches.
_AGES = {
    "work": RETENTION.work_folders,
    "checkpoints": RETENTION.checkpoints,
    "searches": RETENTION.checkpoints,
    "models": RETENTION.model_copies,
}


def machine_removals(airflow_logs: Iterable[Path]) -> Iterator[Removal]:
    """All that is removed from this machine's scratch folder, and from these folders of Airflow's logs."""
    root = scratch_root()
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if folder.is_dir():
            # Copies of remote files are used one by one, all other entries as a whole.
            entries = files_below(folder, reads_count=True) if folder.name == COPIES else _entries(folder)
            yield unused(f"entries of {folder}", entries, _AGES.get(folder.name, RETENTION.caches))
    logs = (file for folder in airflow_logs for file in files_below(folder))
    yield unused("logs of Airflow", logs, RETENTION.airflow_logs)


def _entries(folder: Path) -> Iterator[StoredFile]:
    """The files and folders in a folder, each with the size and the last use of everything in it."""
    for entry in sorted(folder.iterdir()):
        try:
            status = entry.stat()
        except FileNotFoundError:  # another process has just removed it
            continue
        if entry.is_dir():
            files = list(files_below(entry, reads_count=True))
            used_at = max([status.st_mtime, *(file.used_at for file in files)])
            yield StoredFile(entry, sum(file.size for file in files), used_at)
        else:
            yield StoredFile(entry, status.st_size, max(status.st_mtime, status.st_atime))

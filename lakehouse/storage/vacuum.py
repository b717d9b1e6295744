"""Tidies up Delta tables: files that no recent version names, and old entries of their logs."""

import time
from pathlib import Path

from deltalake import DeltaTable

from lakehouse.retention import DAY_S
from lakehouse.storage.delta_table import storage_options
from lakehouse.storage.store_path import store_errors
from lakehouse.storage.stored_files import StoredFile, files_below

_LOG, _CHECKPOINT = "_delta_log", ".checkpoint.parquet"
_VERSION_DIGITS = 20


def unneeded_files(folder: Path, days: int) -> list[StoredFile]:
    """The files that no version of the last `days` days names, and that were not written or stored again since.

    A job stores its files before it commits them (data_files.store_file), so a new file without a version stays.
    """
    with store_errors(folder):
        names = set(
            _open(folder).vacuum(retention_hours=24 * days, dry_run=True, enforce_retention_duration=False, full=True)
        )
        oldest = time.time() - days * DAY_S
        files = [file for file in files_below(folder) if file.used_at < oldest]
    return [file for file in files if str(file.path).removeprefix(str(folder)).lstrip("/") in names]


def expired_log_entries(folder: Path, days: int) -> list[StoredFile]:
    """The entries of a table's log before the newest checkpoint that is older than `days` days."""
    oldest = time.time() - days * DAY_S
    entries = {file: _version(file) for file in files_below(folder / _LOG) if file.used_at < oldest}
    checkpoints = [version for file, version in entries.items() if file.path.name.endswith(_CHECKPOINT)]
    return [file for file, version in entries.items() if 0 <= version < max(checkpoints, default=0)]


def trim_log(folder: Path) -> None:
    """Write a checkpoint of the present version, and remove the expired entries of the log (log_entries)."""
    with store_errors(folder):
        table = _open(folder)
        table.create_checkpoint()
        table.cleanup_metadata()


def _open(folder: Path) -> DeltaTable:
    return DeltaTable(str(folder), storage_options=storage_options(folder))


def _version(file: StoredFile) -> int:
    """The version of an entry of the log; -1 of any other file."""
    digits = file.path.name[:_VERSION_DIGITS]
    return int(digits) if digits.isdigit() and len(digits) == _VERSION_DIGITS else -1

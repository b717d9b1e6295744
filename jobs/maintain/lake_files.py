"""Finds what can be removed from a lake: files of tables that were replaced, old log entries, old results of days."""

from collections.abc import Iterator

from jobs.maintain.removal import Removal, unused
from jobs.quality.consumer_files import STAGING
from jobs.raw.index import stored_index
from lakehouse.lake import Lake
from lakehouse.retention import RETENTION
from lakehouse.storage.stored_files import files_below
from lakehouse.storage.vacuum import expired_log_entries, unneeded_files
from schemas.dataset import Dataset


def lake_removals(lake: Lake, dataset: Dataset) -> Iterator[Removal]:
    """All that is removed from a dataset's part of a lake, except log entries, which `trim_log` removes."""
    days = RETENTION.replaced_files
    replaced = [file for folder in lake.table_folders(dataset) for file in unneeded_files(folder, days)]
    yield Removal("replaced files of tables", days, tuple(replaced))
    # Audits stay as long as their partitions: no job builds on a partition that failed.
    daily = [file for folder in (lake.reports(dataset), lake.drift(dataset)) for file in files_below(folder)]
    daily = [file for file in daily if file.path.stem[:4].isdigit()]  # not the index of days
    yield unused("pages and drift of days", daily, RETENTION.daily_results)
    index = stored_index(lake, dataset)
    in_log = {*index.files, *index.removed} if index else set()
    # A copy whose file has come back stays, for the rows in it must not be exported again.
    exported = [file for file in files_below(lake.exported_quarantine(dataset)) if file.path.name not in in_log]
    yield unused("copies of exported quarantine", exported, RETENTION.exported_quarantine)
    published = lake.consumer_files(dataset)
    staged = [file for folder in published.glob(f"{STAGING}*") for file in files_below(folder)]
    yield unused("incomplete files of killed audits", staged, RETENTION.work_folders)


def log_removal(lake: Lake, dataset: Dataset) -> Removal:
    """The log entries that `trim_log` removes."""
    days = RETENTION.log_entries
    entries = [entry for folder in lake.table_folders(dataset) for entry in expired_log_entries(folder, days)]
    return Removal("entries of the logs of tables", days, tuple(entries))

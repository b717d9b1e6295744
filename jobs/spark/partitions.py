"""Publishes days whose files Spark's workers have stored, in one commit."""

from collections.abc import Callable, Mapping, Sequence

from lakehouse.arrow_types import stored_schema
from lakehouse.code_version import code_version
from lakehouse.lake import DS, Lake, NewDay, publish_days
from lakehouse.manifest import Manifest
from lakehouse.storage.data_files import store_table
from lakehouse.storage.delta_table import FilesByValue, Replaced
from schemas.contract import Table
from schemas.dataset import Dataset

# A row group is buffered in memory, and a row with lists is large: a window of 20 steps takes several kilobytes.
ROWS_PER_GROUP, ROWS_PER_GROUP_WITH_LISTS = 16_384, 1_024
# A worker buffers up to 50 MB of each day that it writes, and 256 MB more (DayFiles): 1.9 GB for a month. The rows that
# it has read come on top.
DAYS_PER_WRITE = 32
# In one bucket. A row takes less than a kilobyte while it is sorted.
_ROWS_PER_CHUNK = 2_000_000


def day_chunks(files: FilesByValue) -> list[list[str]]:
    """The days in their order, in chunks that are small enough for the memory of a task on one bucket.

    files: by day, those that the task reads. A day is never divided.
    """
    chunks: list[list[str]] = []
    rows = 0
    for day, named in files.items():
        rows_of_day = max((file.rows for file in named), default=0)
        rows += rows_of_day
        if not chunks or len(chunks[-1]) == DAYS_PER_WRITE or rows > _ROWS_PER_CHUNK:
            chunks.append([])
            rows = rows_of_day
        chunks[-1].append(day)
    return chunks


def commit_built_days(
    lake: Lake,
    table: Table,
    dataset: Dataset,
    days: Sequence[str],
    stored: FilesByValue,
    *,
    inputs: Callable[[str], Mapping[str, str]],
    replaces: FilesByValue,
    counts: Callable[[str, int], Mapping[str, int]] = lambda day, rows: {},
) -> dict[str, Manifest]:
    """Publish days whose files the workers have stored: see publish_days. stored: the files of each day with rows."""
    folder, files = lake.table(table.name, dataset), dict(stored)
    if stray := sorted(files.keys() - set(days)):
        raise ValueError(f"{table.name} of {dataset.name}: rows of {', '.join(stray[:3])} have no day to go to")
    schema = stored_schema(table)
    for day in set(days) - files.keys():
        files[day] = (store_table(folder, f"{DS}={day}", schema.empty_table()),)
    new_days = {
        day: NewDay(files[day], inputs(day), counts(day, sum(file.rows for file in files[day]))) for day in days
    }
    return _commit(lake, table, dataset, new_days, replaces)


def _commit(
    lake: Lake, table: Table, dataset: Dataset, new_days: dict[str, NewDay], replaces: FilesByValue
) -> dict[str, Manifest]:
    """Commit the days that no other run has published in the meantime; returns the present manifests of all days."""
    published: dict[str, Manifest] = {}
    while new_days:
        try:
            published |= publish_days(
                lake, table.name, dataset.name, new_days, stored_schema(table), code=code_version("jobs"),
                expected={day: replaces[day] for day in new_days},
            )  # fmt: skip
            break
        except Replaced as error:
            days = ", ".join(error.values)
            print(f"note: another run has published {table.name} of {dataset.name} on {days}: its result stays")
            present = lake.manifests(dataset, [table.name])[table.name]
            published |= {day: present[day] for day in error.values if day in present}
            new_days = {day: new for day, new in new_days.items() if day not in error.values}
    return published

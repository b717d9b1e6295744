"""How many files a day of a dataset has in a lake, each with other users: a task builds one of them.

Rows of a day are always in the same number of files, split by user: the same files whatever the parallelism, so that
equal content has an equal fingerprint.
"""

import os
from itertools import chain

from lakehouse.lake import Lake
from lakehouse.storage.data_files import part_of
from lakehouse.storage.delta_table import present_files, table_version
from lakehouse.storage.files import read_stored, write_whole
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import EXPOSURES, QUARANTINE

FILES_PER_DAY = 8  # unless the first run of a dataset in a lake names another number
_IF_DAMAGED = "write into it how many files each day of exposures has (8, unless a run has chosen another number)"
_VARIABLE, _LARGEST = "MTORL_FILES_PER_DAY", 1024


def files_per_day(lake: Lake, dataset: Dataset) -> int:
    """How many files a day of this dataset has in this lake, each with other users.

    MTORL_FILES_PER_DAY or FILES_PER_DAY, until the dataset has tables. Raises UserError if it has another number then,
    or if a day of its exposures has more files than the stored number: a task would not find all rows of its users.
    """
    file, requested = lake.files_per_day(dataset), _requested_files_per_day()
    if not _has_tables(lake, dataset):
        return requested or FILES_PER_DAY
    try:
        stored = read_stored(file, _file_count, _IF_DAMAGED)
    except FileNotFoundError:
        stored = FILES_PER_DAY  # a lake from before the number was stored
    largest = _largest_number(lake, dataset)
    if largest >= stored:
        fault = f"has the number {stored}, but a day of exposures has {largest + 1} files or more"
        raise UserError(f"{file} {fault if file.exists() else 'is missing'}: {_IF_DAMAGED}")
    if requested not in (None, stored):
        raise UserError(
            f"{_VARIABLE}={requested}: {dataset.name} has {stored} files a day in {lake.root}, and this "
            "cannot change: remove the setting, or give the lake another folder with LAKE="
        )
    return stored


def store_files_per_day(lake: Lake, dataset: Dataset, number: int) -> None:
    """Store the number of a dataset that has no tables yet. Raises UserError if it has tables with another number."""
    if not _has_tables(lake, dataset):
        write_whole(lake.files_per_day(dataset), f"{number}\n")
    elif (stored := files_per_day(lake, dataset)) != number:
        raise UserError(
            f"another run has begun {dataset.name} in {lake.root} with {stored} files a day, not {number}: run again"
        )


def _largest_number(lake: Lake, dataset: Dataset) -> int:
    """The largest number in the name of a file of exposures; -1 without any file."""
    files = chain.from_iterable(present_files(lake.table(EXPOSURES, dataset)).values())
    return max((int(part_of(file).removeprefix("part-")) for file in files), default=-1)


def _has_tables(lake: Lake, dataset: Dataset) -> bool:
    return any(table_version(lake.table(table, dataset)) >= 0 for table in (EXPOSURES, QUARANTINE))


def _requested_files_per_day() -> int | None:
    value = os.environ.get(_VARIABLE)
    if not value:
        return None
    try:
        return _file_count(value)
    except ValueError:
        raise UserError(f"{_VARIABLE}={value}: a number from 1 to {_LARGEST}") from None


def _file_count(text: str) -> int:
    """Raises ValueError for any other text than such a number."""
    number = int(text)
    if not 1 <= number <= _LARGEST:
        raise ValueError(f"{number} files a day")
    return number

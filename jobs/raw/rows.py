"""Reads a raw log into rows: each row is usable as an exposure or an outcome, or has the reason for its quarantine.

No row of the log is dropped. The files are read task by task, here or in Spark's workers: jobs.raw.log.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from jobs.raw.contract_sql import check_expressions
from jobs.raw.files import RawFiles
from jobs.raw.joins.lookups import check_selects, read_lookups
from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.read import SPLIT_SIZE, Split, plan_splits, read_split
from jobs.raw.row_work import log_rows, outcome_file_rows, row_schema
from schemas.dataset import Dataset, RawFile
from schemas.errors import UserError

_LARGEST_TABLE = 64 << 20  # bytes of typed rows; each table costs some milliseconds, whatever its size


class ReadTask(NamedTuple):
    """A part of the log, or of the files of outcomes, that one worker reads. layout: of all its files."""

    layout: RawFile
    splits: Sequence[Split]

    @property
    def size(self) -> int:
        """Bytes on disk, about."""
        return sum(split.size for split in self.splits)


def require_usable(dataset: Dataset) -> None:
    """Raises UserError for a contract with a fault. Needs no Spark, so it is called before Spark starts as well."""
    try:
        dataset.check()
    except ValueError as error:
        raise UserError(str(error)) from error
    check_selects(dataset)
    check_expressions(dataset)


def read_tasks(dataset: Dataset, files: Mapping[str, RawFiles]) -> list[ReadTask]:
    """Tasks that together read every record of the log and of the files of outcomes once.

    files: by view name, as from find_raw_files; views that are left out are not read.
    """
    tasks = []
    for view in (dataset.log.view, *(file.view for file in dataset.outcome_files)):
        if group := files.get(view):
            splits = [split for path in group.paths for split in plan_splits(open_raw_file(path, group.layout))]
            tasks += [ReadTask(group.layout, part) for part in grouped(splits, SPLIT_SIZE)]
    return tasks


def rows_of_task(task: ReadTask, dataset: Dataset, lookups: Mapping[str, pa.Table]) -> Iterator[pa.Table]:
    """The rows of a task, with the columns of row_schema: one for each record that is not blank.

    lookups: by view, as jobs.raw.joins.lookups.read_lookups.
    """
    for table in joined(table for split in task.splits for table in read_split(split, task.layout)):
        if task.layout == dataset.log:
            yield log_rows(table, dataset, lookups)
        else:
            yield outcome_file_rows(table, dataset, task.layout)


def read_rows(dataset: Dataset, files: Mapping[str, RawFiles]) -> pa.Table:
    """All rows of the log and of the files of outcomes, in this process: for samples. files: see read_tasks."""
    require_usable(dataset)
    lookups = read_lookups(dataset, files)
    tables = [table for task in read_tasks(dataset, files) for table in rows_of_task(task, dataset, lookups)]
    return pa.concat_tables([row_schema(dataset).empty_table(), *tables])


def grouped(splits: Sequence[Split], size: int) -> list[list[Split]]:
    """The splits in their order, in groups of at most this many bytes: small files share a task."""
    groups: list[list[Split]] = []
    free = 0
    for split in splits:
        if split.size > free or not groups:
            groups.append([])
            free = size
        groups[-1].append(split)
        free -= split.size
    return groups


def joined(tables: Iterator[pa.Table], largest: int = _LARGEST_TABLE) -> Iterator[pa.Table]:
    """The same rows in fewer tables, each of about this many bytes; no table is empty."""
    waiting: list[pa.Table] = []
    size = 0
    for table in filter(len, tables):
        waiting.append(table)
        size += table.nbytes
        if size >= largest:
            yield pa.concat_tables(waiting)
            waiting, size = [], 0
    if waiting:
        yield pa.concat_tables(waiting)

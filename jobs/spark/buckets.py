"""Work on one bucket of users after another, each as a task of Spark that reads and writes the files of its bucket.

The rows of a day are in one file for each bucket, by a hash of the user (jobs.spark.bucket_numbers). The
rows of a user are in the same bucket on every day and in every table that is split by user, so the tables of a user
need no further shuffle, and no row leaves Python.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow as pa
from pyspark import SparkContext

from jobs.spark.coded_text import keeping_codes
from jobs.spark.day_files import DayFiles
from jobs.spark.partitions import DS, ROWS_PER_GROUP
from lakehouse.arrow_types import stored_schema
from lakehouse.storage.data_files import part_of, store_file
from lakehouse.storage.delta_table import DataFile, FilesByValue
from lakehouse.storage.scratch import work_folder
from lakehouse.storage.store_path import located
from schemas.contract import Table

_FILES_AT_ONCE = 8


class StoredFile(NamedTuple):
    """A file that a task has stored, of a day of a table."""

    table: str
    day: str
    file: DataFile


def in_each_bucket(spark: SparkContext, buckets: int, task: Callable[[int], Iterable[Any]]) -> list[Any]:
    """Run task(bucket) for each bucket in Spark's workers; returns all results, from which files_by_day takes files."""
    return list(spark.parallelize(range(buckets), buckets).flatMap(task).collect())


def files_by_day(results: Iterable[Any]) -> dict[str, FilesByValue]:
    """The stored files among the results of tasks, by table and day."""
    files: dict[str, dict[str, list[DataFile]]] = {}
    for table, day, file in (result for result in results if isinstance(result, StoredFile)):
        files.setdefault(table, {}).setdefault(day, []).append(file)
    return {table: {day: tuple(sorted(named)) for day, named in days.items()} for table, days in files.items()}


def files_of_bucket(files: Mapping[str, Iterable[DataFile]], bucket: int) -> dict[str, DataFile]:
    """The file of this bucket on each day that has one. files: of all buckets, by day."""
    part = f"part-{bucket}"
    return {day: file for day, named in files.items() for file in named if part_of(file) == part}


class BucketWriter:
    """Writes the rows of one bucket to a file for each day of a table, and stores the files when the block ends."""

    def __init__(self, table: Table, folder: str, bucket: int, rows_per_group: int = ROWS_PER_GROUP) -> None:
        """folder: of the table, as a path or a URI."""
        self._table, self._folder, self._bucket, self._rows_per_group = table, folder, bucket, rows_per_group
        self._schema = stored_schema(table)
        self._open = ExitStack()
        self.stored: list[StoredFile] = []

    def __enter__(self) -> Self:
        self._work = self._open.enter_context(work_folder())
        self._files = self._open.enter_context(DayFiles(self._work, self._rows_per_group))
        return self

    def add(self, rows: pa.Table) -> None:
        """rows: the columns of the table, and ds. The rows of a day are adjacent."""
        # Without the cast, a type that follows from the values would change the bytes.
        columns = rows.select(self._schema.names)
        self._files.add(columns.cast(keeping_codes(self._schema, columns)), rows.column(DS))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._open:
            if error is None:
                # The disk, or the store, makes several files durable in the time of one.
                with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
                    self.stored += pool.map(lambda finished: self._stored(*finished), self._files.finish())

    def _stored(self, day: str, file: Path) -> StoredFile:
        stored = store_file(located(self._folder), f"{DS}={day}", file, part=f"part-{self._bucket}")
        return StoredFile(self._table.name, day, stored)

"""Raw files in Spark: its workers read splits of the files with jobs.raw.reader."""

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from jobs.raw.files import RawFiles
from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.read import SPLIT_SIZE, Split, plan_splits, read_split
from schemas.dataset import RawFile

_LARGEST_TABLE = 64 << 20  # bytes of typed rows; each table costs some milliseconds, whatever its size
_ROWS_OF_BATCH = 1 << 14  # Java holds a batch as a whole

Compute = Callable[[pa.Table], pa.Table]


def read_in_workers(spark: SparkSession, files: RawFiles, compute: Compute, ddl: str) -> DataFrame:
    """The rows that `compute` makes of the rows of the files: one for each record that is not blank.

    compute: from tables with the columns of jobs.raw.reader.typed_rows.typed_schema to tables with the columns `ddl`.
    """
    splits = [split for path in files.paths for split in plan_splits(open_raw_file(path, files.layout))]
    tasks = grouped(splits, SPLIT_SIZE)
    task_numbers = spark.range(0, len(tasks), 1, numPartitions=max(len(tasks), 1))
    return task_numbers.mapInArrow(_reader(tasks, files.layout, compute), ddl)


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


def _reader(
    tasks: list[list[Split]], layout: RawFile, compute: Compute
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        numbers = (number for batch in batches for number in batch.column(0).to_pylist())
        splits = (split for number in numbers for split in tasks[number])
        for table in joined(table for split in splits for table in read_split(split, layout)):
            yield from compute(table).to_batches(max_chunksize=_ROWS_OF_BATCH)

    return read

"""Raw files to typed rows in Spark: its workers read splits of the files with jobs.raw.reader."""

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from jobs.raw.files import RawFiles
from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.read import SPLIT_SIZE, Split, plan_splits, read_split
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE, typed_ddl, typed_schema
from schemas.dataset import RawFile

__all__ = ["RAW", "REASON", "SOURCE", "read_typed_lines"]


def read_typed_lines(spark: SparkSession, files: RawFiles) -> DataFrame:
    """The rows of the files: a row for each record that is not blank.

    Columns: those of the layout (null if missing or unreadable), REASON (why the row is refused, null if it is not),
    RAW (the bytes of the record), SOURCE (the name of its file).
    """
    splits = [split for path in files.paths for split in plan_splits(open_raw_file(path, files.layout))]
    tasks = grouped(splits, SPLIT_SIZE)
    task_numbers = spark.range(0, len(tasks), 1, numPartitions=max(len(tasks), 1))
    return task_numbers.mapInArrow(_reader(tasks, files.layout), typed_ddl(files.layout))


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


def _reader(
    tasks: list[list[Split]], layout: RawFile
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    schema = typed_schema(layout)

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                for split in tasks[number]:
                    for table in read_split(split, layout):
                        yield from table.cast(schema).to_batches()

    return read

"""Stream a table's partitions: little memory however many rows, and the same tables however they are read."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_READ = 4096


def read_tables(
    partitions: Iterable[Path], columns: Iterable[str], rows_per_read: int = ROWS_PER_READ
) -> Iterator[pa.Table]:
    """The rows of the partitions in the order of their files, at most `rows_per_read` at a time."""
    for partition in partitions:
        for path in sorted(partition.glob("*.parquet")):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows_per_read, columns=list(columns)):
                    yield pa.Table.from_batches([batch])


def regrouped(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in the same order, in tables of `rows` rows; the last may be shorter."""
    held = None
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        while len(held) >= rows:
            yield held.slice(0, rows)
            held = held.slice(rows)
    if held is not None and len(held):
        yield held

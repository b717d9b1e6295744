"""Stream a table's partitions: little memory however many rows, and the same tables however they are read."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.manifest import MANIFEST
from schemas.errors import Busy

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


@contextmanager
def consistent_read(partitions: Iterable[Path]) -> Iterator[None]:
    """Read these partitions in as many passes as it takes, manifests included, and be sure that all saw the same rows.

    Raises Busy where another run has published one of them in the meantime, whatever else came of it.
    """
    before = {partition: _edition(partition) for partition in partitions}

    def check(cause: BaseException | None = None) -> None:
        for partition, edition in before.items():
            if _edition(partition) != edition:
                raise Busy(f"{partition} was published anew while it was read: run again") from cause

    try:
        yield
    except Exception as error:  # a file that is gone, a row that is not there
        check(error)
        raise
    check()


def _edition(partition: Path) -> tuple[int, int] | None:
    """What changes whenever the partition is published, also with the same content; None where there is none."""
    try:
        found = (partition / MANIFEST).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_ctime_ns


def rechunk(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in the same order, in tables of `rows` rows; the last may be shorter."""
    held = None
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        while len(held) >= rows:
            yield held.slice(0, rows)
            held = held.slice(rows)
    if held is not None and len(held):
        yield held

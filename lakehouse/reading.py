"""Streams the rows of partitions, so that memory does not grow with their number."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from lakehouse.lake import Partition
from lakehouse.storage.data_files import open_parquet
from schemas.errors import Busy

ROWS_PER_READ = 4096


def read_tables(
    partitions: Iterable[Partition], columns: Iterable[str], rows_per_read: int = ROWS_PER_READ
) -> Iterator[pa.Table]:
    """The rows of the partitions, in the order of their files, as tables of at most `rows_per_read` rows."""
    for partition in partitions:
        for data_file in partition.files():
            with open_parquet(data_file) as file:
                for batch in file.iter_batches(batch_size=rows_per_read, columns=list(columns)):
                    yield pa.Table.from_batches([batch])


@contextmanager
def consistent_read(partitions: Iterable[Partition]) -> Iterator[None]:
    """Inside the block, these partitions and their manifests can be read several times, always with the same rows.

    Raises Busy at the end of the block if another run has published one of them in the meantime. It does so also if the
    block has failed, because the failure may come from the change (a missing file or row).
    """
    manifests = {partition: partition.manifest for partition in partitions}

    def require_unchanged(cause: BaseException | None = None) -> None:
        for partition, manifest in manifests.items():
            if partition.manifest != manifest:
                raise Busy(f"{partition.path} was published again while it was read: run again") from cause

    try:
        yield
    except Exception as error:
        require_unchanged(error)
        raise
    require_unchanged()


def rechunk(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in the same order, in tables of `rows` rows; the last table may be shorter."""
    buffered = None
    for table in tables:
        buffered = table if buffered is None else pa.concat_tables([buffered, table])
        while len(buffered) >= rows:
            yield buffered.slice(0, rows)
            buffered = buffered.slice(rows)
    if buffered is not None and len(buffered):
        yield buffered

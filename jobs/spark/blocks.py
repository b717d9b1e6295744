"""Rows on their way between Spark's workers: blocks of Arrow, of which Spark sees only the number of their partition.

No row becomes an object of Java. Spark writes the blocks to its shuffle files, sends them, and repeats lost tasks.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from jobs.spark.coded_text import coded_in_row_order, is_coded


class Block(NamedTuple):
    """Rows of one kind, or any other small content of that kind. content: rows as a stream of Arrow."""

    kind: str
    content: Any


def blocks_by_partition(kind: str, rows: pa.Table, partition_N: np.ndarray) -> Iterator[tuple[int, Block]]:
    """The rows, which keep their order, in one block for each partition that has any. partition_N: of each row."""
    if not len(rows):
        return
    rows = rows.take(pa.array(np.argsort(partition_N, kind="stable"))).combine_chunks()
    count_P = np.bincount(partition_N)
    for partition in np.flatnonzero(count_P).tolist():
        part = rows.slice(count_P[:partition].sum(), count_P[partition])
        if any(len(column.chunk(0).dictionary) > len(part) for column in part.columns if is_coded(column)):
            part = coded_in_row_order(part)  # or each block would have the texts of all rows
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, part.schema) as writer:
            writer.write_table(part)
        yield partition, Block(kind, sink.getvalue().to_pybytes())


def rows_by_kind(blocks: Iterable[Block], schemas: Mapping[str, pa.Schema]) -> dict[str, pa.Table]:
    """All rows of each of these kinds; blocks of other kinds are skipped."""
    parts = {kind: [schema.empty_table()] for kind, schema in schemas.items()}
    for kind, content in blocks:
        if kind in parts:
            parts[kind].append(pa.ipc.open_stream(content).read_all())
    return {kind: pa.concat_tables(tables) for kind, tables in parts.items()}

"""Rows of one key, which Spark has brought together and sorted, in tables of whole keys."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa


def whole_groups(batches: Iterator[pa.RecordBatch], key: str) -> Iterator[pa.Table]:
    """Tables of rows sorted by the key, which has no nulls: the rows of a key are in one table."""
    pending: list[pa.RecordBatch] = []
    for batch in filter(len, batches):
        keys = batch.column(key).to_numpy(zero_copy_only=False)
        # Everything before the last key of the batch is complete.
        start = int(np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))[-1])
        if start == 0 and pending and pending[-1].column(key)[-1].as_py() == keys[0]:
            pending.append(batch)
            continue
        if complete := [part for part in (*pending, batch.slice(0, start)) if len(part)]:
            yield pa.Table.from_batches(complete).combine_chunks()
        pending = [batch.slice(start)]
    if pending:
        yield pa.Table.from_batches(pending).combine_chunks()


def first_rows(keys: pa.ChunkedArray) -> np.ndarray:
    """For each row the place of the first row with its key. keys: sorted, without nulls."""
    values = keys.to_numpy(zero_copy_only=False)
    starts = np.append(True, values[1:] != values[:-1])
    return np.maximum.accumulate(np.where(starts, np.arange(len(values)), 0))

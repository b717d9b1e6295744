"""Rows of one key, in an order in which they are adjacent."""

import numpy as np
import pyarrow as pa


def first_rows(keys: pa.ChunkedArray) -> np.ndarray:
    """For each row the place of the first row with its key. keys: sorted, without nulls."""
    values = keys.to_numpy(zero_copy_only=False)
    starts = np.append(True, values[1:] != values[:-1])
    return np.maximum.accumulate(np.where(starts, np.arange(len(values)), 0))

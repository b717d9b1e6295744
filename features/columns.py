"""Conversions between Arrow columns and numpy arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

NO_ROW = -1

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def distinct_codes(values: pa.ChunkedArray) -> Ints:
    """A number for each distinct value; null counts as a value. The values may be a dictionary of Arrow."""
    encoded = pc.dictionary_encode(values.combine_chunks(), null_encoding="encode")
    return filled_ints(encoded.indices, NO_ROW)


def numbers_in_order(values: pa.ChunkedArray) -> Ints:
    """[N]: the number of each value among the distinct values, from 0, in ascending order: texts by their bytes."""
    return to_ints(pc.rank(values, tiebreaker="dense")) - 1


def stacked(upper: Any, lower: Any) -> pa.ChunkedArray:
    """The values of `upper`, then those of `lower`, cast to the type of `upper`."""
    chunks = [
        chunk
        for column in (upper, lower)
        for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else [column])
    ]
    return pa.chunked_array([chunk.cast(chunks[0].type) for chunk in chunks])


def row_indices(rows: Ints) -> pa.Array:
    """Indices for `take`, which gives null for NO_ROW."""
    return pa.array(rows, mask=rows == NO_ROW)


def filled_ints(values: Any, missing: int) -> Ints:
    """The integers of a column; `missing` in place of null."""
    return to_ints(pc.fill_null(values, missing))


def to_ints(values: Any) -> Ints:
    """The integers of a column without nulls."""
    return np.asarray(values).astype(np.int64, copy=False)


def to_floats(values: Any) -> Floats:
    """The numbers of a column; NaN in place of null."""
    return np.asarray(values.cast(pa.float64())).astype(np.float64, copy=False)


def list_offsets(lengths: npt.NDArray[Any]) -> pa.Array:
    """Offsets of a ListArray whose lists have these lengths."""
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def fixed_length_lists(values: pa.Array, length: int) -> pa.ListArray:
    """Lists of `length` consecutive values each."""
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, length, dtype=np.int32)), values)

"""Columns of Arrow as arrays of numpy and back, as the arithmetic on facts needs them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

NONE = -1  # a position that is none

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def codes(values: pa.ChunkedArray) -> Ints:
    """A number for each distinct value, null among them."""
    encoded = pc.dictionary_encode(values.combine_chunks(), null_encoding="encode")
    return ints(encoded.indices)


def both(one: Any, other: Any) -> pa.ChunkedArray:
    """One column behind the other."""
    chunks = [
        chunk for part in (one, other) for chunk in (part.chunks if isinstance(part, pa.ChunkedArray) else [part])
    ]
    return pa.chunked_array([chunk.cast(chunks[0].type) for chunk in chunks])


def positions(at: Ints) -> pa.Array:
    """For `take`: NONE gives null."""
    return pa.array(at, mask=at == NONE)


def at(values: Ints, at_S: Ints) -> Ints:
    """[S]: NONE where the position is."""
    found_S: Ints = np.append(values, NONE)[at_S]
    return found_S


def filled(values: Any) -> Ints:
    return ints(pc.fill_null(values, NONE))


def ints(values: Any) -> Ints:
    """Of a column without nulls."""
    return np.asarray(values).astype(np.int64, copy=False)


def floats(values: Any) -> Floats:
    """NaN where it is null."""
    return np.asarray(values.cast(pa.float64())).astype(np.float64, copy=False)


def offsets(lengths: npt.NDArray[Any]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))

"""Hashes that serve as identities: of an exposure, of a row of an outcome, of the values that two rows share.

The hash is XXH64, chained from value to value as the function xxhash64 of Spark does, on whole columns. Shape suffix: N
rows, B bytes.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.dataset import RawColumn

_SEED = 42
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime)
    for prime in (
        0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
    )
)  # fmt: skip
_STRIPE, _WORD, _HALF_WORD = 32, 8, 4
_ROWS_AT_ONCE = 1 << 14  # their columns fit into the cache of a processor


def identity(columns: Iterable[tuple[pa.ChunkedArray, RawColumn]], name: str = "") -> pa.Array:
    """A 64-bit hash of values with their positions, for each row. name: hashed first.

    Spark's hash skips nulls, so (7, null) and (null, 7) would be equal. Each value that may be null is therefore
    followed by its type or by `null`; the type of any other value follows from its position.
    """
    arrays = [(values.combine_chunks(), column) for values, column in columns]
    rows = len(arrays[0][0])
    hash_N = np.full(rows, _SEED, np.uint64)
    with np.errstate(over="ignore"):
        for start in range(0, rows, _ROWS_AT_ONCE):
            part_N = hash_N[start : start + _ROWS_AT_ONCE]
            if name:
                part_N[:] = _hashed_constant(name, part_N)
            for values, column in arrays:
                part_N[:] = _with_value(values.slice(start, _ROWS_AT_ONCE), column, part_N)
    return pa.array(hash_N.view(np.int64))


def _with_value(values: pa.Array, column: RawColumn, seed_N: np.ndarray) -> np.ndarray:
    hash_N = (
        text_hashes(values, seed_N) if pa.types.is_string(values.type) else _hashed_word(number_words(values), seed_N)
    )
    if values.null_count:
        hash_N = np.where(pc.is_null(values).to_numpy(zero_copy_only=False), seed_N, hash_N)
    if not column.nullable:
        return hash_N
    is_null_N = pc.is_null(values).to_numpy(zero_copy_only=False)
    return np.where(is_null_N, _hashed_constant("null", hash_N), _hashed_constant(column.dtype, hash_N))


def number_words(values: pa.Array) -> np.ndarray:
    """Numbers of 64 bits as words; any word for nulls."""
    if values.null_count:
        values = pc.fill_null(values, 0)
    numbers_N = values.to_numpy()
    if pa.types.is_floating(values.type):
        numbers_N = numbers_N + 0.0  # -0.0 is 0.0
    return numbers_N.view(np.uint64)


def _hashed_word(word_N: np.ndarray, seed_N: np.ndarray) -> np.ndarray:
    return _finished(with_word(seed_N + _P5 + np.uint64(_WORD), word_N))


def _hashed_constant(text: str, seed_N: np.ndarray) -> np.ndarray:
    data = text.encode()
    rows = len(seed_N)
    return _hashed_bytes(data, np.zeros(rows, np.int64), np.full(rows, len(data), np.int64), seed_N)


def text_hashes(values: pa.Array, seed_N: np.ndarray) -> np.ndarray:
    """XXH64 of texts or bytes without nulls. seed_N: of each of them."""
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    text = data.slice(ends[0], ends[-1] - ends[0]).to_pybytes() if data else b""
    return _hashed_bytes(text, ends[:-1] - ends[0], np.diff(ends), seed_N)


def _hashed_bytes(data: bytes, start_N: np.ndarray, length_N: np.ndarray, seed_N: np.ndarray) -> np.ndarray:
    """XXH64 of the bytes from each start on."""
    padded_B = np.frombuffer(data + bytes(_WORD), np.uint8)
    words_B = np.ndarray(len(data) + 1, "<u8", padded_B, strides=(1,))  # the eight bytes from each byte on
    hash_N = seed_N + _P5
    is_long_N = length_N >= _STRIPE
    if is_long_N.any():
        rows = np.flatnonzero(is_long_N)
        hash_N[rows] = _hashed_stripes(words_B, start_N[rows], length_N[rows] // _STRIPE, seed_N[rows])
    hash_N += length_N.astype(np.uint64)
    place_N = start_N + length_N // _STRIPE * _STRIPE
    end_N = start_N + length_N
    for _ in range(_STRIPE // _WORD - 1):
        rows = np.flatnonzero(place_N + _WORD <= end_N)
        hash_N[rows] = with_word(hash_N[rows], words_B[place_N[rows]])
        place_N[rows] += _WORD
    rows = np.flatnonzero(place_N + _HALF_WORD <= end_N)
    half_word = words_B[place_N[rows]] & np.uint64(0xFFFFFFFF)
    hash_N[rows] = _rotated(hash_N[rows] ^ (half_word * _P1), 23) * _P2 + _P3
    place_N[rows] += _HALF_WORD
    for _ in range(_HALF_WORD - 1):
        rows = np.flatnonzero(place_N < end_N)
        hash_N[rows] = _rotated(hash_N[rows] ^ (padded_B[place_N[rows]].astype(np.uint64) * _P5), 11) * _P1
        place_N[rows] += 1
    return _finished(hash_N)


def _hashed_stripes(words_B: np.ndarray, start_N: np.ndarray, stripes_N: np.ndarray, seed_N: np.ndarray) -> np.ndarray:
    """The hash of the whole stripes of 32 bytes, before the length and the rest are added."""
    lanes = [seed_N + _P1 + _P2, seed_N + _P2, seed_N.copy(), seed_N - _P1]
    for stripe in range(int(stripes_N.max())):
        rows = np.flatnonzero(stripe < stripes_N)
        place = start_N[rows] + stripe * _STRIPE
        for number, lane_N in enumerate(lanes):
            lane_N[rows] = _round(lane_N[rows], words_B[place + number * _WORD])
    hash_N = sum(_rotated(lane_N, turn) for lane_N, turn in zip(lanes, (1, 7, 12, 18), strict=True))
    for lane_N in lanes:
        hash_N = (hash_N ^ _round(np.zeros_like(lane_N), lane_N)) * _P1 + _P4
    return hash_N


def _round(lane_N: np.ndarray, word_N: np.ndarray) -> np.ndarray:
    return _rotated(lane_N + word_N * _P2, 31) * _P1


def with_word(hash_N: np.ndarray, word_N: np.ndarray | np.uint64) -> np.ndarray:
    """The hashes, each with one more word. Overflows are part of it: numpy's warnings should be off."""
    return _rotated(hash_N ^ (_rotated(word_N * _P2, 31) * _P1), 27) * _P1 + _P4


def _rotated(hash_N: np.ndarray, bits: int) -> np.ndarray:
    return (hash_N << np.uint64(bits)) | (hash_N >> np.uint64(64 - bits))


def _finished(hash_N: np.ndarray) -> np.ndarray:
    hash_N = (hash_N ^ (hash_N >> np.uint64(33))) * _P2
    hash_N = (hash_N ^ (hash_N >> np.uint64(29))) * _P3
    return hash_N ^ (hash_N >> np.uint64(32))

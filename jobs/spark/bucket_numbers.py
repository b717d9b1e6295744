"""The bucket of a user, and of any other key, on whole columns, as Spark's repartition chooses it.

The files of a day are named by their bucket, and those of earlier versions were written by Spark. The hash is Spark's
Murmur3, which mixes each byte after the last word of four on its own. Shape suffix: N rows, B bytes.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_SEED = 42
_WORD = 4


def bucket_numbers(keys: pa.ChunkedArray, buckets: int) -> np.ndarray:
    """The bucket of each key, from 0 to buckets - 1. keys: texts, bytes, or numbers of the types int and bigint."""
    if not len(keys):
        return np.zeros(0, np.int64)
    values = keys.combine_chunks()
    with np.errstate(over="ignore"):
        if pa.types.is_integer(values.type):
            hash_N = _hashed_numbers(pc.fill_null(values, 0).to_numpy())
        else:
            hash_N = _hashed_bytes(values)
        hash_N = np.where(pc.is_null(values).to_numpy(zero_copy_only=False), np.uint32(_SEED), hash_N)
    return np.mod(hash_N.view(np.int32).astype(np.int64), buckets)


def _hashed_numbers(number_N: np.ndarray) -> np.ndarray:
    words = number_N.view("<u4").reshape(len(number_N), -1)
    hash_N = np.full(len(number_N), _SEED, np.uint32)
    for place in range(words.shape[1]):
        hash_N = _with_word(hash_N, words[:, place])
    return _finished(hash_N, np.uint32(_WORD * words.shape[1]))


def _hashed_bytes(values: pa.Array) -> np.ndarray:
    _, offsets, data = values.buffers()
    end_N = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    start_N, length_N = end_N[:-1], np.diff(end_N)
    byte_B = np.frombuffer(data or b"", np.uint8)
    byte_B = np.concatenate([byte_B[: end_N[-1]], np.zeros(_WORD, np.uint8)])
    word_B = np.ndarray(len(byte_B) - _WORD + 1, "<u4", byte_B, strides=(1,))  # the four bytes from each byte on
    hash_N = np.full(len(values), _SEED, np.uint32)
    words_N = length_N // _WORD
    for place in range(int(words_N.max())):
        rows = np.flatnonzero(place < words_N)
        hash_N[rows] = _with_word(hash_N[rows], word_B[start_N[rows] + place * _WORD])
    for place in range(_WORD - 1):
        rows = np.flatnonzero(place < length_N % _WORD)
        signed_bytes = byte_B.view(np.int8)[start_N[rows] + words_N[rows] * _WORD + place].astype(np.int32)
        hash_N[rows] = _with_word(hash_N[rows], signed_bytes.view(np.uint32))
    return _finished(hash_N, length_N.astype(np.uint32))


def _with_word(hash_N: np.ndarray, word_N: np.ndarray) -> np.ndarray:
    mixed_N = _rotated(word_N * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
    return _rotated(hash_N ^ mixed_N, 13) * np.uint32(5) + np.uint32(0xE6546B64)


def _rotated(hash_N: np.ndarray, bits: int) -> np.ndarray:
    return (hash_N << np.uint32(bits)) | (hash_N >> np.uint32(32 - bits))


def _finished(hash_N: np.ndarray, length: np.ndarray | np.uint32) -> np.ndarray:
    hash_N = hash_N ^ length
    hash_N = (hash_N ^ (hash_N >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    hash_N = (hash_N ^ (hash_N >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return hash_N ^ (hash_N >> np.uint32(16))

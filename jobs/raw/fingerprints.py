"""Fingerprints of the rows of each log file and day, which do not depend on the order of the rows."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.raw.identity import number_words, text_hashes, with_word
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE
from jobs.raw.row_work import DS, OUTCOME

_SEED = 42
_NULL = np.uint64(0x9E3779B97F4A7C15)  # in place of a value; what was hashed before is inverted for it
_ROWS_AT_ONCE = 1 << 14  # their columns fit into the cache of a processor


class RowGroup(NamedTuple):
    """Rows of one kind, of one file and day. day: None if it cannot be read."""

    file: str
    day: str | None
    is_quarantined: bool
    is_outcome: bool


class Fingerprint(NamedTuple):
    """The fingerprint of a set of rows. total, xor: over their hashes, in 64 bits.

    A row that occurs twice cancels out in an exclusive or but not in a sum.
    """

    rows: int
    total: int
    xor: int

    def __add__(self, other: "Fingerprint") -> "Fingerprint":  # type: ignore[override]  # of a tuple
        return Fingerprint(self.rows + other.rows, (self.total + other.total) % 2**64, self.xor ^ other.xor)


Fingerprints = dict[RowGroup, Fingerprint]


def fingerprints(rows: pa.Table) -> Fingerprints:
    """rows: with the columns of jobs.raw.row_work.row_schema."""
    if not len(rows):
        return {}
    is_quarantined_N = pc.is_valid(rows.column(REASON)).to_numpy()
    is_outcome_N = is_outcome(rows) & ~is_quarantined_N
    file, day = (rows.column(name).combine_chunks().dictionary_encode() for name in (SOURCE, DS))
    # The days are numbered from 1: 0 is for rows whose day cannot be read.
    day_N = pc.fill_null(pc.add(day.indices, 1), 0).to_numpy(zero_copy_only=False)
    code_N = ((file.indices.to_numpy() * (len(day.dictionary) + 1) + day_N) * 2 + is_quarantined_N) * 2 + is_outcome_N
    order_N = np.argsort(code_N, kind="stable")
    hash_N = row_hashes(rows, is_quarantined_N | is_outcome_N)[order_N]
    start_G = np.flatnonzero(np.append(True, np.diff(code_N[order_N]) != 0))
    with np.errstate(over="ignore"):
        mixed_N = with_word(hash_N, np.uint64(1))
        totals, xors = np.add.reduceat(hash_N, start_G), np.bitwise_xor.reduceat(mixed_N, start_G)
    counts = np.diff(np.append(start_G, len(rows)))
    days = [None, *day.dictionary.to_pylist()]
    groups = [
        RowGroup(file.dictionary[file.indices[k].as_py()].as_py(), days[day_N[k]], *map(bool, (q, o)))
        for k, q, o in ((k, is_quarantined_N[k], is_outcome_N[k]) for k in order_N[start_G].tolist())
    ]
    return {
        group: Fingerprint(rows, total, xor)
        for group, rows, total, xor in zip(groups, counts.tolist(), totals.tolist(), xors.tolist(), strict=True)
    }


def combined(parts: Iterable[Fingerprints]) -> Fingerprints:
    """The fingerprints of all rows of the parts."""
    total: Fingerprints = {}
    for part in parts:
        for group, fingerprint in part.items():
            total[group] = total[group] + fingerprint if group in total else fingerprint
    return total


def is_outcome(rows: pa.Table) -> np.ndarray:
    """Whether each row reports a gain, so that it is not an exposure."""
    if OUTCOME not in rows.column_names:
        return np.zeros(len(rows), bool)
    return pc.is_valid(rows.column(OUTCOME)).to_numpy()


def row_hashes(rows: pa.Table, with_raw_N: np.ndarray) -> np.ndarray:
    """A 64-bit hash of the values of each row but its file; its day is in the hash through its time.

    with_raw_N: whether the bytes of the row are hashed as well. A usable row that is written in another way is the
    same row.
    """
    values = [rows.column(name).combine_chunks() for name in rows.column_names if name not in (DS, SOURCE, RAW)]
    words = [(_words(column), _is_null(column)) for column in values]
    hash_N = np.full(len(rows), _SEED, np.uint64)
    with np.errstate(over="ignore"):
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            for word_N, is_null_N in words:
                previous_N = hash_N[part].copy()
                hash_N[part] = with_word(previous_N, word_N[part])
                if is_null_N is not None:
                    hash_N[part] = np.where(is_null_N[part], with_word(~previous_N, _NULL), hash_N[part])
        raw_rows = np.flatnonzero(with_raw_N)
        if len(raw_rows):
            raw = rows.column(RAW).take(pa.array(raw_rows)).combine_chunks()
            hash_N[raw_rows] = text_hashes(pc.fill_null(raw, b""), hash_N[raw_rows])
    return hash_N


def _words(values: pa.Array) -> np.ndarray:
    """64 bits of each value; any bits for nulls."""
    if pa.types.is_string(values.type) or pa.types.is_dictionary(values.type):
        # Most texts are repeated, so each is hashed once.
        coded = values.dictionary_encode()
        hash_K = text_hashes(coded.dictionary, np.full(len(coded.dictionary), _SEED, np.uint64))
        places_N = pc.fill_null(coded.indices, 0).to_numpy(zero_copy_only=False)
        return hash_K[places_N] if len(hash_K) else np.zeros(len(values), np.uint64)
    if pa.types.is_boolean(values.type) or pa.types.is_int32(values.type):
        values = values.cast(pa.int64())
    elif pa.types.is_float32(values.type):
        values = values.cast(pa.float64())
    return number_words(values)


def _is_null(values: pa.Array) -> np.ndarray | None:
    """Which values are null; None if no value is."""
    return pc.is_null(values).to_numpy(zero_copy_only=False) if values.null_count else None

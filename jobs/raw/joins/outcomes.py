"""Joins outcomes that separate rows report to their exposures.

A row of a dataset with outcomes has these columns in addition: OUTCOME, the gain that it reports (null for an
exposure), and for each match of the contract a column of `match_columns`, the hash of the values that an exposure and
its outcome share.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE
from jobs.raw.row_work import OUTCOME
from schemas.dataset import Dataset
from schemas.tables.exposures import match_columns, matches

JOINED = "_joined"  # of an outcome: JOINED_ROW or DUPLICATE; null for exposures and quarantined rows
JOINED_ROW, DUPLICATE = "joined", "duplicate"
NO_EXPOSURE = "no exposure for this"  # the beginning of the reason of an outcome that belongs to none
_KEY, _IS_OUTCOME, _IS_QUARANTINED = "_key", "_is_outcome", "_is_quarantined"
_HOUR_MS = 3_600_000


def join_key(rows: pa.Table, dataset: Dataset, match: int) -> pa.ChunkedArray:
    """The keys by which rows are joined: an exposure and its outcomes have the same one.

    match: which of the contract's matches, which are joined one after another. A row that takes no part in it has a
    key that no other row has.
    """
    values = pc.if_else(_takes_part(rows, dataset, match), rows.column(match_columns(dataset)[match].name), None)
    return pc.coalesce(values, rows.column("exposure_id"))


def join_outcomes(rows: pa.Table, dataset: Dataset, match: int) -> pa.Table:
    """The rows in another order, with the gains of the outcomes that belong to them by this match, and with JOINED.

    An outcome that belongs to no exposure gets a REASON. rows: all of their keys. They may have JOINED already, from an
    earlier match. An exposure without a match column, published by an earlier version, keeps its gains.
    """
    if JOINED not in rows.column_names:
        rows = rows.append_column(JOINED, pa.nulls(len(rows), pa.string()))
    takes_part = pc.and_(pc.is_null(rows.column(REASON)), _takes_part(rows, dataset, match))
    sort_keys = {
        _KEY: join_key(rows, dataset, match),
        _IS_QUARANTINED: pc.invert(takes_part),
        "exposed_at_ms": rows.column("exposed_at_ms"),
        _IS_OUTCOME: pc.is_valid(rows.column(OUTCOME)),
        "exposure_id": rows.column("exposure_id"),
        OUTCOME: rows.column(OUTCOME),
        # Which of several copies is quarantined does not depend on the order in which files are read.
        SOURCE: rows.column(SOURCE),
        RAW: rows.column(RAW),
    }
    order = pc.sort_indices(pa.table(sort_keys), sort_keys=[(name, "ascending") for name in sort_keys])
    added = [_KEY, _IS_QUARANTINED, _IS_OUTCOME]
    for name in added:
        rows = rows.append_column(name, sort_keys[name])
    return join_sorted(rows.take(order).combine_chunks(), _within_ms(dataset, match)).drop_columns(added)


def _within_ms(dataset: Dataset, match: int) -> dict[str, int]:
    """For each gain of the match, how much later than its exposure an outcome may be."""
    match_names = matches(dataset)[match]
    return {o.gain: o.within_hours * _HOUR_MS for o in dataset.outcomes if o.match == match_names}


def _takes_part(rows: pa.Table, dataset: Dataset, match: int) -> pa.ChunkedArray:
    gain = rows.column(OUTCOME)
    return pc.or_(pc.is_null(gain), pc.is_in(gain, value_set=pa.array([*_within_ms(dataset, match)])))


def join_sorted(table: pa.Table, within_ms: Mapping[str, int]) -> pa.Table:
    """The rows with gains and their times, and JOINED and REASON of outcomes.

    table: whole groups, sorted by _key, _is_quarantined, exposed_at_ms, _is_outcome, exposure_id. An outcome belongs to
    the last exposure before it in its group that is at most within_ms older; copies of an exposure count as one.
    """
    rows = len(table)
    key = _numbers(table, _KEY)
    time = _numbers(table, "exposed_at_ms")
    row_id = _numbers(table, "exposure_id")
    takes_part = ~_flags(table, _IS_QUARANTINED)
    is_outcome = _flags(table, _IS_OUTCOME) & takes_part
    is_exposure = takes_part & ~is_outcome
    gain = np.asarray(table.column(OUTCOME).to_pylist(), dtype=object)
    repeats = np.zeros(rows, dtype=bool)
    repeats[1:] = (key[1:] == key[:-1]) & (time[1:] == time[:-1]) & (row_id[1:] == row_id[:-1])
    repeats[1:] &= takes_part[1:] & takes_part[:-1] & (gain[1:] == gain[:-1])

    # Number the exposures; copies of one have one number.
    starts = is_exposure & ~repeats
    number = np.cumsum(starts) - 1
    first_row = np.flatnonzero(starts)
    belongs = is_outcome & (number >= 0)
    owner = first_row[np.maximum(number, 0)] if len(first_row) else np.zeros(rows, dtype=int)
    limit = np.array([within_ms.get(name, -1) for name in gain], dtype=np.int64)
    belongs &= (key[owner] == key) & (time - time[owner] <= limit)

    for name in within_ms:
        table = _with_gain(table, name, number, is_exposure, belongs & (gain == name), time)
    return _with_fates(table, within_ms, is_outcome, belongs, repeats)


def _with_gain(
    table: pa.Table, gain: str, number: np.ndarray, is_exposure: np.ndarray, joined: np.ndarray, time: np.ndarray
) -> pa.Table:
    """The gain of each exposure, and the time of the first of its outcomes, unless it has an earlier one already.

    A published exposure may have one that its copy in a raw file lacks: all copies get the earliest.
    """
    unknown_ms = np.iinfo(np.int64).max
    first_time = np.full(max(int(number.max(initial=-1)) + 1, 1), unknown_ms)
    np.minimum.at(first_time, number[joined], time[joined])
    known = pc.fill_null(table.column(f"{gain}_at_ms"), unknown_ms).to_numpy()
    np.minimum.at(first_time, number[is_exposure], known[is_exposure])
    at_ms = np.where(is_exposure, first_time[np.maximum(number, 0)], known)
    has_gain = at_ms < unknown_ms
    values = pa.array(np.where(has_gain, 1, 0).astype(np.int32), mask=~(is_exposure | has_gain))
    table = _replaced(table, gain, values)
    return _replaced(table, f"{gain}_at_ms", pa.array(at_ms, mask=~has_gain))


def _with_fates(
    table: pa.Table,
    within_ms: Mapping[str, int],
    is_outcome: np.ndarray,
    belongs: np.ndarray,
    repeats: np.ndarray,
) -> pa.Table:
    is_repeat = is_outcome & repeats
    fate = np.where(is_repeat, DUPLICATE, np.where(belongs, JOINED_ROW, None))
    joined = pc.if_else(pa.array(is_outcome), pa.array(fate, pa.string()), table.column(JOINED))
    gain = table.column(OUTCOME)
    reason = table.column(REASON)
    for name, limit in within_ms.items():
        is_lone = pc.and_(pa.array(is_outcome & ~belongs & ~is_repeat), pc.fill_null(pc.equal(gain, name), False))
        text = f"{NO_EXPOSURE} {name} in the {limit // _HOUR_MS} hours before it"
        reason = pc.if_else(is_lone, pa.scalar(text), reason)
    for name, column in ((JOINED, joined), (REASON, reason)):
        table = _replaced(table, name, column)
    return table


def _replaced(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), column)


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    """The values as int64; 0 for nulls, which only quarantined rows have."""
    return pc.fill_null(table.column(name), 0).to_numpy()


def _flags(table: pa.Table, name: str) -> np.ndarray:
    return table.column(name).to_numpy().astype(bool)

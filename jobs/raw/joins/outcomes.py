"""Joins outcomes that separate rows report to their exposures.

A row of a dataset with outcomes has these columns in addition: OUTCOME, the gain that it reports (null for an
exposure), and for each match of the contract a column of `match_columns`, the hash of the values that an exposure and
its outcome share.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.raw.joins.groups import whole_groups
from jobs.raw.reader.typed_rows import REASON
from jobs.raw.row_work import OUTCOME
from jobs.spark.worker_tables import WorkerTable
from schemas.dataset import Dataset
from schemas.tables.exposures import match_columns, matches

JOINED = "_joined"  # of an outcome: JOINED_ROW or DUPLICATE; null for exposures and quarantined rows
JOINED_ROW, DUPLICATE = "joined", "duplicate"
NO_EXPOSURE = "no exposure for this"  # the beginning of the reason of an outcome that belongs to none
_KEY, _IS_OUTCOME, _IS_QUARANTINED = "_key", "_is_outcome", "_is_quarantined"
_HOUR_MS = 3_600_000


def join_days(dataset: Dataset) -> int:
    """The most days by which an outcome's row can be later than its exposure."""
    return max((outcome.days_later for outcome in dataset.outcomes), default=0)


def join_outcomes(rows: DataFrame, dataset: Dataset) -> DataFrame:
    """The rows with the gains of the outcomes that belong to them, and with JOINED.

    An outcome that belongs to no exposure gets a REASON. rows: all that may be joined with those of the days that are
    published, so those of join_days(dataset) days before and after them as well. An exposure without a match column,
    published by an earlier version, keeps its gains.
    """
    rows = rows.withColumn(JOINED, F.lit(None).cast("string"))
    for column, match in zip(match_columns(dataset), matches(dataset), strict=True):
        within_ms = {o.gain: o.within_hours * _HOUR_MS for o in dataset.outcomes if o.match == match}
        participates = F.col(OUTCOME).isNull() | F.col(OUTCOME).isin(*within_ms)
        prepared = rows.select(
            "*",
            # A row that takes no part is spread by its own hash.
            F.coalesce(F.when(participates, F.col(column.name)), "exposure_id").alias(_KEY),
            (F.col(REASON).isNotNull() | ~participates).alias(_IS_QUARANTINED),
            F.col(OUTCOME).isNotNull().alias(_IS_OUTCOME),
        )
        order = (_KEY, _IS_QUARANTINED, "exposed_at_ms", _IS_OUTCOME, "exposure_id", OUTCOME)
        ddl = ", ".join(f"`{name}` {dtype}" for name, dtype in rows.dtypes)
        rows = WorkerTable(prepared, _KEY, order, _joiner(within_ms), ddl).to_dataframe()
    return rows


def _joiner(within_ms: Mapping[str, int]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.Table]]:
    def join(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
        for table in whole_groups(batches, _KEY):
            yield join_sorted(table, within_ms).drop_columns([_KEY, _IS_QUARANTINED, _IS_OUTCOME])

    return join


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

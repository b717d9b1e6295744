"""Rows of a raw log to the tables `exposures` (usable rows without duplicates) and `quarantine`."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.raw.fingerprints import is_outcome
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE
from jobs.raw.row_work import DS
from lakehouse.arrow_types import stored_schema
from schemas.dataset import Dataset
from schemas.tables.exposures import exposures
from schemas.tables.quarantine import QUARANTINE_TABLE

_GROUP = "_group"
_DAY = pa.field(DS, pa.string())


def exposures_schema(dataset: Dataset) -> pa.Schema:
    """The columns of the table `exposures`, and ds."""
    return stored_schema(exposures(dataset)).append(_DAY)


def quarantine_schema() -> pa.Schema:
    """The columns of the table `quarantine`, and ds."""
    return stored_schema(QUARANTINE_TABLE).append(_DAY)


def usable_rows(rows: pa.Table, dataset: Dataset) -> pa.Table:
    """The rows that are usable as exposures, with the columns of exposures_schema.

    rows: with the columns of jobs.raw.row_work.row_schema.
    """
    schema = exposures_schema(dataset)
    return rows.filter(is_usable(rows)).select(schema.names).cast(schema)


def is_usable(rows: pa.Table) -> pa.ChunkedArray:
    """Which rows are usable as exposures."""
    return pc.and_(pc.is_null(rows.column(REASON)), pa.chunked_array([pa.array(~is_outcome(rows))]))


def quarantined_rows(rows: pa.Table) -> pa.Table:
    """The rows with a reason for their quarantine, with the columns of quarantine_schema. Their header is null."""
    refused = rows.filter(pc.is_valid(rows.column(REASON)))
    columns = {
        "source_file": refused.column(SOURCE),
        "raw": refused.column(RAW),
        "reason": refused.column(REASON),
        "header": pa.nulls(len(refused), pa.binary()),
        DS: refused.column(DS),
    }
    return pa.table(columns).cast(quarantine_schema())


def without_duplicates(usable: pa.Table, dataset: Dataset) -> pa.Table:
    """The exposures by day, user, time and exposure_id. usable: with the columns of exposures_schema.

    Rows that agree in user, time and exposure_id are one exposure. The row with the most late gains is kept: a
    row that is delivered again with its conversion replaces the earlier one. Further ties go to the larger values,
    column by column, so that every run keeps the same row.
    """
    rows = usable.take(pa.array(_order(usable))).combine_chunks()
    is_first_N = np.full(len(rows), True)
    if len(rows):
        # The identity has no nulls: a row with a null in it is quarantined. A day follows from its time.
        is_first_N[1:] = False
        for name in ("exposure_id", "exposed_at_ms", "user_id"):
            column = rows.column(name)
            is_first_N[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy()
    if is_first_N.all():
        return rows
    first_N = np.flatnonzero(is_first_N)
    row_N = first_N.copy()
    group_N = np.cumsum(is_first_N) - 1
    repeated_N = np.flatnonzero(np.bincount(group_N)[group_N] > 1)
    copies = rows.take(pa.array(repeated_N)).append_column(_GROUP, pa.array(group_N[repeated_N]))
    names = dict.fromkeys((*dataset.late_gains, *(column.name for column in exposures(dataset).columns)))
    sort_keys = [(_GROUP, "ascending", "at_end"), *((name, "descending", "at_end") for name in names)]
    best_first_N = repeated_N[pc.sort_indices(copies, sort_keys=sort_keys).to_numpy()]
    group_of_best_N = group_N[best_first_N]
    is_best_N = np.append(True, group_of_best_N[1:] != group_of_best_N[:-1])
    row_N[group_of_best_N[is_best_N]] = best_first_N[is_best_N]
    return rows.take(pa.array(row_N))


def with_headers(quarantined: pa.Table, headers: Mapping[str, bytes]) -> pa.Table:
    """Quarantined rows with the header of their file, by day, bytes, file and reason. headers: by the file's name.

    A row that has a header keeps it.
    """
    # The bytes of one bucket may exceed the two gigabytes that Arrow's offsets of 32 bits can address.
    place = quarantined.schema.get_field_index("raw")
    quarantined = quarantined.set_column(place, "raw", quarantined.column("raw").cast(pa.large_binary()))
    order = pc.sort_indices(quarantined, sort_keys=[(n, "ascending") for n in (DS, "raw", "source_file", "reason")])
    rows = quarantined.take(order)
    coded = rows.column("source_file").combine_chunks().dictionary_encode()
    known = pa.array([headers.get(name) for name in coded.dictionary.to_pylist()], pa.binary()).take(coded.indices)
    return rows.set_column(rows.schema.get_field_index("header"), "header", pc.coalesce(rows.column("header"), known))


def _order(usable: pa.Table) -> np.ndarray:
    """By day, user, time and exposure_id."""
    keys = [usable.column(name).to_numpy() for name in ("exposure_id", "exposed_at_ms")]
    # Ranks sort texts as well as numbers, by bytes.
    ranks = [pc.rank(usable.column(name), tiebreaker="dense").to_numpy() for name in ("user_id", DS)]
    return np.lexsort((*keys, *ranks))

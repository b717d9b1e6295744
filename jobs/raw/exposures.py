"""Rows of a raw log to the tables `exposures` (usable rows without duplicates) and `quarantine`."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.raw.fingerprints import is_outcome
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE
from jobs.raw.row_work import DS
from jobs.spark.coded_text import with_coded_text
from lakehouse.arrow_types import rows_where, stored_schema
from schemas.dataset import Dataset
from schemas.tables.exposures import exposures
from schemas.tables.quarantine import QUARANTINE_TABLE

_GROUP = "_group"
_DAY = pa.field(DS, pa.string())


def exposures_schema(dataset: Dataset) -> pa.Schema:
    """The columns of the table `exposures`, and ds. All texts but the user's and the day are codes."""
    return with_coded_text(stored_schema(exposures(dataset)), plain=("user_id",)).append(_DAY)


def quarantine_schema() -> pa.Schema:
    """The columns of the table `quarantine`, and ds."""
    return stored_schema(QUARANTINE_TABLE).append(_DAY)


def usable_rows(rows: pa.Table, dataset: Dataset) -> pa.Table:
    """The rows that are usable as exposures, with the columns of exposures_schema.

    rows: with the columns of jobs.raw.row_work.row_schema.
    """
    schema = exposures_schema(dataset)
    return rows_where(rows.select(schema.names), is_usable(rows)).cast(schema)


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
    usable = usable.unify_dictionaries()
    order_N = _order(usable)
    identity = usable.select(["exposure_id", "exposed_at_ms", "user_id"]).take(pa.array(order_N))
    # The identity has no nulls: a row with a null in it is quarantined. A day follows from its time.
    is_first_N = np.arange(len(order_N)) == 0
    for column in identity.columns:
        is_first_N[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy()
    row_G = order_N[is_first_N]
    group_N = np.cumsum(is_first_N) - 1
    repeated_N = np.flatnonzero(np.bincount(group_N)[group_N] > 1)
    if len(repeated_N):
        copies = usable.take(pa.array(order_N[repeated_N])).cast(_with_texts(usable.schema))  # codes have no order
        copies = copies.append_column(_GROUP, pa.array(group_N[repeated_N]))
        names = dict.fromkeys((*dataset.late_gains, *(column.name for column in exposures(dataset).columns)))
        sort_keys = [(_GROUP, "ascending", "at_end"), *((name, "descending", "at_end") for name in names)]
        best_first_N = repeated_N[pc.sort_indices(copies, sort_keys=sort_keys).to_numpy()]
        group_of_best_N = group_N[best_first_N]
        is_best_N = np.append(True, group_of_best_N[1:] != group_of_best_N[:-1])
        row_G[group_of_best_N[is_best_N]] = order_N[best_first_N[is_best_N]]
    return usable.take(pa.array(row_G)).combine_chunks()


def _with_texts(schema: pa.Schema) -> pa.Schema:
    return pa.schema(
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in schema
    )


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
    user_id, day = usable.column("user_id"), usable.column(DS).combine_chunks().dictionary_encode()
    # Ranks sort texts by their bytes.
    is_text = pa.types.is_string(user_id.type)
    keys.append((pc.rank(user_id, tiebreaker="dense") if is_text else user_id).to_numpy())
    rank_of_day = pc.rank(day.dictionary, tiebreaker="dense").to_numpy().astype(np.int32)
    return np.lexsort((*keys, rank_of_day[day.indices.to_numpy()]))

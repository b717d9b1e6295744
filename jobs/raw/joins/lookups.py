"""Side tables of a log: one row for each key, and a line for each thing that a person should know about their rows."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.raw.contract_sql import first_line, select
from jobs.raw.files import RawFiles
from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.read import read_file
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE, typed_schema
from schemas.contract import quoted_name
from schemas.dataset import Dataset, Lookup
from schemas.errors import UserError
from schemas.printable import counted

_AGE = "_age"
_DIFFERENT, _UNCLEAR = "_different", "_unclear"  # whether rows of the key differ, and whether the newest ones do
_REASON_UNCLEAR = "its key has different rows in one file"


def read_lookups(dataset: Dataset, files: Mapping[str, RawFiles]) -> dict[str, pa.Table]:
    """The lookups of a dataset by view name, with the columns that expressions may name; prints notes on their rows.

    files: by view name. Raises UserError as check_selects, and for a SELECT that repeats a key.
    """
    expressions = "\n".join(duckdb_sql for _, duckdb_sql, _ in dataset.expressions).lower()
    tables = {}
    for lookup in dataset.lookups:
        table = _with_added_columns(read_lookup(files[lookup.file.view], lookup), lookup, dataset)
        used = [name for name in table.column_names if quoted_name(name.lower())[1:-1] in expressions]
        tables[lookup.file.view] = table.select(list(dict.fromkeys((lookup.key, REASON, *used)))).combine_chunks()
    return tables


def matching_rows(table: pa.Table, lookup: Lookup, keys: pa.ChunkedArray) -> pa.Table:
    """The lookup's row for each key of the log, in their order; all columns are null without one. No row has no key."""
    return table.take(pc.index_in(keys, value_set=table.column(lookup.key), skip_nulls=True))


def read_lookup(files: RawFiles, lookup: Lookup) -> pa.Table:
    """One row for each key that can be read, with REASON if the row cannot be used; prints the notes on its rows.

    Equal rows are one. Among different rows of a key, the newest counts: by Lookup.newest_by, then by the file. A key
    whose newest rows come from one file and differ has no usable row.
    """
    rows = _rows_with_age(files)
    has_key = pc.is_valid(rows.column(lookup.key))
    without_key = rows.filter(pc.invert(has_key))
    newest = [(lookup.newest_by, "descending", "at_end")] if lookup.newest_by else []
    sort_keys = [(lookup.key, "ascending", "at_end"), *newest, (_AGE, "ascending", "at_end")]
    order = pc.sort_indices(rows, sort_keys=sort_keys)
    by_key = one_row_per_key(rows.take(order.slice(0, len(rows) - len(without_key))).combine_chunks(), lookup)
    for note in _notes(by_key, without_key, lookup):
        print(f"note: {note}")
    return by_key.drop_columns([SOURCE, _AGE, _DIFFERENT, _UNCLEAR])


def check_selects(dataset: Dataset) -> None:
    """Raises UserError for the first SELECT of a lookup that DuckDB cannot read, or whose rows cannot be joined."""
    for lookup in dataset.lookups:
        _selected(typed_schema(lookup.file).empty_table().drop_columns([RAW, SOURCE]), lookup, dataset)


def _with_added_columns(table: pa.Table, lookup: Lookup, dataset: Dataset) -> pa.Table:
    """The table with the columns that the lookup's SELECT adds. Each key keeps its REASON, whatever the SELECT does."""
    rows = _selected(table, lookup, dataset)
    if pc.count_distinct(rows.column(lookup.key), mode="all").as_py() < len(rows):
        raise _fault_of_select(dataset, f"it has more than one row of a {lookup.key}")
    reasons = matching_rows(table, lookup, rows.column(lookup.key)).column(REASON)
    return rows.select([name for name in rows.column_names if name != REASON]).append_column(REASON, reasons)


def _selected(table: pa.Table, lookup: Lookup, dataset: Dataset) -> pa.Table:
    """The rows of the lookup's SELECT over the table. Raises UserError as check_selects."""
    if not lookup.duckdb_sql:
        return table
    try:
        rows = select(lookup.duckdb_sql, lookup.file.view, table)
    except duckdb.Error as error:
        raise _fault_of_select(dataset, first_line(error)) from None
    number_of_names = Counter(name.lower() for name in rows.column_names)
    if repeated := [name for name in rows.column_names if number_of_names[name.lower()] > 1]:
        raise _fault_of_select(dataset, f"it has two columns {repeated[0]}")
    if lookup.key not in rows.column_names:
        raise _fault_of_select(dataset, f"it must keep the key: it has no column {lookup.key}")
    key_type, dtype = table.schema.field(lookup.key).type, rows.schema.field(lookup.key).type
    if dtype != key_type:
        raise _fault_of_select(
            dataset, f"it must keep the key as it is: {lookup.key} has the type {dtype} instead of {key_type}"
        )
    return rows


def _fault_of_select(dataset: Dataset, problem: str) -> UserError:
    return UserError(f"dataset {dataset.name}, the SELECT of a lookup: {problem}")


def _rows_with_age(files: RawFiles) -> pa.Table:
    """All rows without their bytes, and with _AGE: 0 in the file that was changed last.

    Of files of one time, the last one by name is the newest.
    """
    newest_first = sorted(files.by_name.items(), key=lambda item: (item[1].stat().st_mtime_ns, item[0]), reverse=True)
    tables = [_with_age(typed_schema(files.layout).empty_table(), 0)]
    for age, (_, path) in enumerate(newest_first):
        tables += (_with_age(table, age) for table in read_file(open_raw_file(path, files.layout), files.layout))
    return pa.concat_tables(tables)


def _with_age(table: pa.Table, age: int) -> pa.Table:
    return table.drop_columns([RAW]).append_column(_AGE, pa.repeat(pa.scalar(age, pa.int64()), len(table)))


def one_row_per_key(table: pa.Table, lookup: Lookup) -> pa.Table:
    """The newest row of each key, with REASON if it is unclear which that is, _different and _unclear.

    table: all rows of its keys, sorted by the key, the newest first.
    """
    first = _first_rows(table.column(lookup.key))
    is_first = first == np.arange(len(table))
    values = [name for name in table.column_names if name not in (SOURCE, _AGE)]
    differs = _differs(table, values, first)
    is_newest = ~_differs(table, [_AGE, *([lookup.newest_by] if lookup.newest_by else [])], first)
    different, unclear = np.zeros(len(table), bool), np.zeros(len(table), bool)
    different[first[differs]] = True
    unclear[first[differs & is_newest]] = True
    rows = table.append_column(_DIFFERENT, pa.array(different)).append_column(_UNCLEAR, pa.array(unclear))
    reason = pc.if_else(pa.array(unclear), pa.scalar(_REASON_UNCLEAR), pa.scalar(None, pa.string()))
    place = rows.schema.get_field_index(REASON)
    rows = rows.set_column(place, REASON, pc.coalesce(rows.column(REASON), reason))
    return rows.filter(pa.array(is_first))


def _differs(table: pa.Table, names: Sequence[str], first: np.ndarray) -> np.ndarray:
    """Which rows differ in one of the columns from the first row of their key. Two nulls do not differ."""
    differs = np.zeros(len(table), bool)
    repeats = np.flatnonzero(first != np.arange(len(table)))  # of most keys there is one row
    for name in names:
        value = table.column(name).take(pa.array(repeats))
        first_value = table.column(name).take(pa.array(first[repeats]))
        unequal = pc.fill_null(pc.not_equal(value, first_value), pc.xor(value.is_null(), first_value.is_null()))
        differs[repeats] |= unequal.to_numpy()
    return differs


def _first_rows(keys: pa.ChunkedArray) -> np.ndarray:
    """For each row the place of the first row with its key. keys: sorted, without nulls."""
    values = keys.to_numpy(zero_copy_only=False)
    starts = np.append(True, values[1:] != values[:-1])
    return np.maximum.accumulate(np.where(starts, np.arange(len(values)), 0))


def _notes(by_key: pa.Table, without_key: pa.Table, lookup: Lookup) -> Iterator[str]:
    view = lookup.file.view
    if number := len(without_key):
        pairs = zip(without_key.column(REASON).to_pylist(), without_key.column(SOURCE).to_pylist(), strict=True)
        (reason, source), _ = min(Counter(pairs).items(), key=lambda item: (-item[1], str(item[0][0]), item[0][1]))
        yield f"{view}: no key can be read in {counted(number, 'row')}, most often because: {reason} ({source})"
    different = pc.sum(by_key.column(_DIFFERENT), min_count=0).as_py()
    is_unclear = pc.fill_null(pc.equal(by_key.column(REASON), _REASON_UNCLEAR), False)
    unclear = pc.sum(pc.and_(by_key.column(_UNCLEAR), is_unclear), min_count=0).as_py()
    if resolved := different - unclear:
        rule = f"the largest {lookup.newest_by}" if lookup.newest_by else "the newest file"
        yield f"{view}: different rows of {counted(resolved, 'key')}; the row of {rule} counts"
    if unclear:
        yield f"{view}: different rows of {counted(unclear, 'key')} in one file: refused"

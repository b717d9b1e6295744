"""Exposures and gains of each item value up to the end of a day: yesterday's counts and those of the exposures since.

A late gain counts from the day on which it became known. Counts are whole numbers, so that exposures may be counted in
any parts, and any number of days may be folded together.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import list_offsets, to_ints
from features.user_chunk import DS
from schemas.dataset import Dataset

_KEY = ["item", "value"]
_CODE = "_code"
_DAY = pa.field(DS, pa.string())
_PENDING = pa.schema([*((name, pa.string()) for name in (*_KEY, "known_on", "gain")), ("count", pa.int64())])


def history_columns(dataset: Dataset) -> tuple[str, ...]:
    """The columns of `exposures` that are read."""
    return tuple(dict.fromkeys((*dataset.items, *dataset.gain_names, *dataset.late_gain_times.values())))


class ItemCounts(NamedTuple):
    """The counts of item values, by day (ds). late_gains: the days on which those of each value become known."""

    counts: pa.Table
    late_gains: pa.Table


def count_items(exposures: pa.Table, dataset: Dataset) -> ItemCounts:
    """exposures: with the columns history_columns and ds. Their texts may be dictionaries of Arrow."""
    counts = [_value_counts(exposures, item, dataset) for item in dataset.items]
    late_gains = [pa.schema([_DAY, *_PENDING]).empty_table()]
    for gain in dataset.late_gains:
        gained = _with_known_on(exposures, gain, dataset)
        late_gains += (_late_gains(gained, item, gain) for item in dataset.items)
    counts.append(_counts_schema(dataset).append(_DAY).empty_table())
    return ItemCounts(pa.concat_tables(counts), _summed(late_gains, pa.schema([_DAY, *_PENDING]), 5))


def fold_item_history(earlier: pa.Table | None, new: Iterable[ItemCounts], dataset: Dataset, day: str) -> pa.Table:
    """The table `item_history` as of the end of `day`, sorted by item and value.

    earlier: the table of an earlier day, None to start with the first exposure. new: the counts of the exposures since
    then, up to `day`.
    """
    counts, pending = [_counts_schema(dataset).empty_table()], [_PENDING.empty_table()]
    if earlier is not None:
        counts.append(earlier.select(_counts_schema(dataset).names).cast(_counts_schema(dataset)))
        pending.append(_pending_rows(earlier))
    for part in new:
        counts.append(part.counts.drop_columns(DS))
        pending.append(part.late_gains.drop_columns(DS))
    known, still_pending = _split_by_day(_summed(pending, _PENDING, 4), day)
    counts.append(_as_counts(known, dataset))
    totals = _summed(counts, _counts_schema(dataset), 2)
    return _with_pending(totals.sort_by([(name, "ascending") for name in _KEY]), still_pending)


def _counts_schema(dataset: Dataset) -> pa.Schema:
    names = ("exposures", *dataset.gain_names)
    return pa.schema([*((name, pa.string()) for name in _KEY), *((name, pa.int64()) for name in names)])


def _summed(tables: Sequence[pa.Table], schema: pa.Schema, keys: int) -> pa.Table:
    """One row for each value of the first `keys` columns, in any order, with the sums of the others."""
    names, numbers = schema.names[:keys], schema.names[keys:]
    sums = pa.concat_tables(tables).group_by(names, use_threads=False).aggregate([(name, "sum") for name in numbers])
    return sums.select([*names, *(f"{name}_sum" for name in numbers)]).rename_columns(schema.names).cast(schema)


def _value_counts(rows: pa.Table, item: str, dataset: Dataset) -> pa.Table:
    """Each value's exposures and its gains that come with the exposure, by day; late gains count as 0 here."""
    value, day = (rows.column(name).combine_chunks().dictionary_encode() for name in (item, DS))
    gains = [gain for gain in dataset.gain_names if gain not in dataset.late_gains]
    keyed = pa.table({_CODE: value.indices, DS: day.indices, **{gain: rows.column(gain) for gain in gains}})
    totals = [([], "count_all"), *((gain, "sum") for gain in gains)]
    sums = keyed.filter(value.is_valid()).group_by([_CODE, DS], use_threads=False).aggregate(totals)
    columns = {
        "item": pa.repeat(item, len(sums)),
        "value": value.dictionary.take(sums.column(_CODE)).cast(pa.string()),
        "exposures": sums.column("count_all"),
        **{gain: pc.fill_null(sums.column(f"{gain}_sum"), 0) for gain in gains},
        **{gain: np.zeros(len(sums), np.int64) for gain in dataset.late_gains},
        DS: day.dictionary.take(sums.column(DS)),
    }
    schema = _counts_schema(dataset).append(_DAY)
    return pa.table({name: columns[name] for name in schema.names}, schema)


def _with_known_on(rows: pa.Table, gain: str, dataset: Dataset) -> pa.Table:
    """The rows with this late gain, and the day on which it became known."""
    known_at = dataset.late_gain_times[gain]
    gained = rows.filter(pc.and_(pc.equal(rows.column(gain), 1), pc.is_valid(rows.column(known_at))))
    moment = gained.column(known_at).cast(pa.int64()).cast(pa.timestamp("ms"))
    local = pc.local_timestamp(moment.cast(pa.timestamp("ms", dataset.timezone)))
    return gained.append_column("known_on", pc.cast(pc.cast(local, pa.date32(), safe=False), pa.string()))


def _late_gains(gained: pa.Table, item: str, gain: str) -> pa.Table:
    """The gains of each value, and the days on which they become known. gained: from _with_known_on."""
    rows = gained.filter(pc.is_valid(gained.column(item)))
    columns = {
        "item": pa.repeat(item, len(rows)),
        "value": rows.column(item).cast(pa.string()),
        "known_on": rows.column("known_on"),
        "gain": pa.repeat(gain, len(rows)),
        "count": np.ones(len(rows), np.int64),
    }
    return pa.table({DS: rows.column(DS).cast(pa.string()), **columns}, pa.schema([_DAY, *_PENDING]))


def _split_by_day(late_gains: pa.Table, day: str) -> tuple[pa.Table, pa.Table]:
    """The gains that are known at the end of the day, and the later ones."""
    is_known = pc.less_equal(late_gains.column("known_on"), day)
    return late_gains.filter(is_known), late_gains.filter(pc.invert(is_known))


def _as_counts(known: pa.Table, dataset: Dataset) -> pa.Table:
    """The known late gains as rows of counts without exposures."""
    zeros = pa.array(np.zeros(len(known), np.int64))
    columns = {name: known.column(name) for name in _KEY} | {"exposures": zeros}
    for gain in dataset.gain_names:
        columns[gain] = pc.if_else(pc.equal(known.column("gain"), gain), known.column("count"), 0)
    return pa.table(columns).cast(_counts_schema(dataset))


def _pending_rows(history: pa.Table) -> pa.Table:
    """The column `pending` as one row for each entry."""
    lists = history.column("pending").combine_chunks()
    row, entries = pc.list_parent_indices(lists), pc.list_flatten(lists)
    columns = {name: history.column(name).take(row) for name in _KEY}
    columns |= {name: pc.struct_field(entries, name) for name in ("known_on", "gain", "count")}
    return pa.table(columns).cast(_PENDING)


def _with_pending(totals: pa.Table, pending: pa.Table) -> pa.Table:
    """The counts, which are sorted by item and value, with the column `pending`."""
    row_numbers = pa.array(np.arange(len(totals)))
    numbered = totals.select(_KEY).append_column("row", row_numbers)
    # The right table is hashed: the smaller one.
    rows = numbered.join(pending, _KEY, join_type="inner", use_threads=False)
    rows = rows.sort_by([(name, "ascending") for name in ("row", "known_on", "gain")]).combine_chunks()
    entries = rows.select(["known_on", "gain", "count"]).to_struct_array().combine_chunks()
    lengths = np.bincount(to_ints(rows.column("row")), minlength=len(totals))
    return totals.append_column("pending", pa.ListArray.from_arrays(list_offsets(lengths), entries))

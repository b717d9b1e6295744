"""One row for each key of a side table, as plain Python computes it; the row of each key of the log."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.raw.joins.lookups import one_row_per_key
from schemas.dataset import Lookup, RawColumn, RawFile

USERS = RawFile("users", ("users*.csv",), (RawColumn("key"), RawColumn("version", nullable=True),
                                          RawColumn("name", "string", nullable=True)))  # fmt: skip
UNCLEAR = "its key has different rows in one file"
table_rows = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([None, 1, 2]), st.sampled_from([None, "a", "b"]), st.integers(0, 1)),
    min_size=1, max_size=12,
)  # fmt: skip


def newest_first(rows, *, by_version: bool):
    return sorted(rows, key=lambda row: (row[0], -(row[1] or 0) if by_version else 0, row[3]))


def by_hand(rows, *, by_version: bool):
    """For each key (version, name), the reason, and whether its rows differ."""
    expected = {}
    for key in {row[0] for row in rows}:
        newest, *others = newest_first([row for row in rows if row[0] == key], by_version=by_version)
        values = {row[1:3] for row in (newest, *others)}
        at_once = [row for row in others if row[3] == newest[3] and (not by_version or row[1] == newest[1])]
        reason = UNCLEAR if any(row[1:3] != newest[1:3] for row in at_once) else None
        expected[key] = (newest[1:3] if reason is None else None, reason, len(values) > 1)
    return expected


@pytest.mark.parametrize("by_version", [False, True])
@given(rows=table_rows)
def test_the_newest_row_of_each_key(rows, by_version):
    lookup = Lookup(USERS, "key", "key", "user", newest_by="version" if by_version else "")
    keys, versions, names, ages = zip(*newest_first(rows, by_version=by_version), strict=True)
    table = pa.table({
        "key": keys, "version": pa.array(versions, pa.int64()), "name": pa.array(names, pa.string()),
        "_reason": pa.nulls(len(rows), pa.string()), "_source_file": ["x"] * len(rows), "_age": ages,
    })  # fmt: skip
    by_key = one_row_per_key(table, lookup)
    result = {
        row["key"]: (
            (row["version"], row["name"]) if row["_reason"] is None else None,
            row["_reason"],
            row["_different"],
        )
        for row in by_key.to_pylist()
    }
    assert result == by_hand(rows, by_version=by_version)
    assert len(by_key) == len(result)

"""One row for each key of a side table, as plain Python computes it; the row of each key of the log."""

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.raw.files import RawFiles
from jobs.raw.joins.lookups import matching_rows, one_row_per_key, read_lookups
from jobs.raw.rows import require_usable
from schemas.dataset import Derived, Lookup, RawColumn, RawFile, get_dataset
from schemas.errors import UserError

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


PEOPLE = RawFile("people", ("people*.csv",), (RawColumn("uid"), RawColumn("age")))
CRITEO = get_dataset("criteo")


def with_select(duckdb_sql: str):
    """A dataset with a column of the lookup."""
    age = Derived(replace(CRITEO.column("cat1"), name="age", dtype="bigint", nullable=True), "people.age")
    lookup = Lookup(PEOPLE, "uid", "uid", "person", duckdb_sql)
    return replace(CRITEO, lookups=(lookup,), columns=(*CRITEO.columns, age))


FAULTS = [
    ("SELECT age FROM people", "it must keep the key: it has no column uid"),
    ("SELECT cast(uid AS varchar) AS uid, age FROM people", "it must keep the key as it is: uid has the type string"),
    ("SELECT people.*, age + 1 AS Age FROM people", "it has two columns age"),
    ("SELECT nothing FROM people", "Referenced column"),
]


@pytest.mark.parametrize(("duckdb_sql", "problem"), FAULTS)
def test_a_select_whose_rows_cannot_be_joined_is_one_line_at_the_check(duckdb_sql, problem):
    with pytest.raises(UserError, match=f"^dataset criteo, the SELECT of a lookup: {problem}") as caught:
        require_usable(with_select(duckdb_sql))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "duckdb_sql",
    ["SELECT uid, max(age) AS age FROM people GROUP BY uid", "SELECT *, NULL AS more FROM people"],
)
def test_each_key_keeps_its_reason_through_a_select(tmp_path, duckdb_sql):
    (tmp_path / "people.csv").write_text("uid,age\n1,30\n2,old\n3,50\n")
    dataset = with_select(duckdb_sql)
    require_usable(dataset)
    table = read_lookups(dataset, {"people": RawFiles(PEOPLE, (tmp_path / "people.csv",))})["people"]
    rows = matching_rows(table, dataset.lookups[0], pa.chunked_array([[3, 2, 4, 1, None]], pa.int64()))
    assert rows.column("age").to_pylist() == [50, None, None, 30, None]
    reasons = rows.column("_reason").to_pylist()
    assert [reason is None for reason in reasons] == [True, False, True, True, True]
    assert "age" in reasons[1]


def test_a_null_in_the_log_matches_no_row_without_a_key():
    table = pa.table({"uid": pa.array([None, 1], pa.int64()), "age": [9, 30]})
    rows = matching_rows(table, Lookup(PEOPLE, "uid", "uid", "person"), pa.chunked_array([[None, 1]], pa.int64()))
    assert rows.column("age").to_pylist() == [None, 30]

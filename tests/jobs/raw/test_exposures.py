"""Rows of both tables: duplicates are one exposure, in the order of the table; quarantined rows get their header."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from shop import SHOP

from jobs.raw.exposures import exposures_schema, quarantine_schema, with_headers, without_duplicates
from jobs.raw.row_work import DS

SCHEMA = exposures_schema(SHOP)
IDENTITY = (DS, "user_id", "exposed_at_ms", "exposure_id")


def exposure(user, hour, number, order=0, price=1.0):
    at_ms = (hour + 24 * (hour % 2)) * 3_600_000
    values = dict.fromkeys(SCHEMA.names) | {
        "user_id": user, "exposed_at_ms": at_ms, "exposure_id": number, "cost": price, "order": order,
        "order_at_ms": at_ms + order if order else None, DS: f"1970-01-0{1 + at_ms // 86_400_000}",
    }  # fmt: skip
    return {name: values[name] for name in SCHEMA.names}


def largest_first(row):
    """Nulls count as the smallest value."""
    late = tuple(row[gain] for gain in SHOP.late_gains)
    return (late, tuple((value is not None, value if value is not None else 0) for value in row.values()))


exposures = st.builds(
    exposure, st.sampled_from(["", "ann", "bob", "änn", "Z"]), st.integers(0, 4), st.integers(-1, 1),
    st.integers(0, 1), st.sampled_from([0.0, 1.0]),
)  # fmt: skip


@given(st.lists(exposures, max_size=40))
def test_of_each_exposure_the_row_with_the_most_late_gains_stays(rows):
    by_identity = {}
    for row in rows:
        by_identity.setdefault(tuple(row[name] for name in IDENTITY), []).append(row)
    # Texts are in the order of their bytes.
    in_order = sorted(by_identity, key=lambda identity: (identity[0], identity[1].encode(), *identity[2:]))
    expected = [max(by_identity[identity], key=largest_first) for identity in in_order]
    assert without_duplicates(pa.Table.from_pylist(rows, SCHEMA), SHOP).to_pylist() == expected


def test_quarantined_rows_are_in_order_and_keep_a_header_that_they_have():
    rows = [(day, raw, file, "odd", header) for day, raw, file, header in [
        ("2024-05-02", b"b", "a.csv", None), ("2024-05-01", b"\xff", "a.csv", None),
        ("2024-05-01", b"b", "b.csv", None),
        ("2024-05-01", b"b", "a.csv", b"old"), ("undated", b"", "a.csv", None),
    ]]  # fmt: skip
    names = (DS, "raw", "source_file", "reason", "header")
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], quarantine_schema())
    result = with_headers(table, {"a.csv": b"x,y"}).to_pylist()
    assert [(row[DS], row["raw"], row["source_file"], row["header"]) for row in result] == [
        ("2024-05-01", b"b", "a.csv", b"old"), ("2024-05-01", b"b", "b.csv", None),
        ("2024-05-01", b"\xff", "a.csv", b"x,y"), ("2024-05-02", b"b", "a.csv", b"x,y"),
        ("undated", b"", "a.csv", b"x,y"),
    ]  # fmt: skip

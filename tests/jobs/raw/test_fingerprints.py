"""A fingerprint is that of a set of rows, whatever their order and the tables they come in; each change is seen."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.raw.fingerprints import RowGroup, combined, fingerprints
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE
from jobs.raw.row_work import DS, OUTCOME

SCHEMA = pa.schema([
    ("user_id", pa.string()), ("exposure_id", pa.int64()), ("cost", pa.float64()), ("click", pa.int32()),
    ("late", pa.bool_()), (DS, pa.string()), (REASON, pa.string()), (RAW, pa.binary()), (SOURCE, pa.string()),
    (OUTCOME, pa.string()),
])  # fmt: skip
ROW = {"user_id": "ann", "exposure_id": 1, "cost": 0.5, "click": 1, "late": True, DS: "2024-05-01", REASON: None,
       RAW: b"ann,1", SOURCE: "a.csv", OUTCOME: None}  # fmt: skip
USABLE = RowGroup("a.csv", "2024-05-01", False, False)


def fingerprints_of(*rows):
    return fingerprints(pa.Table.from_pylist([*rows], SCHEMA))


rows = st.fixed_dictionaries({
    "user_id": st.sampled_from(["", "a", "b" * 40, None]), "exposure_id": st.integers(0, 3), "cost": st.just(0.5),
    "click": st.sampled_from([0, 1, None]), "late": st.sampled_from([True, False, None]),
    DS: st.sampled_from(["2024-05-01", "2024-05-02", None]), REASON: st.sampled_from([None, "odd"]),
    RAW: st.binary(max_size=40), SOURCE: st.sampled_from(["a.csv", "b.csv"]),
    OUTCOME: st.sampled_from([None, "buy"]),
})  # fmt: skip


@pytest.mark.slow
@given(st.lists(rows, max_size=30), st.randoms(use_true_random=False), st.integers(0, 30))
def test_order_and_tables_do_not_matter(rows, draw, cut):
    expected = fingerprints_of(*rows)
    draw.shuffle(rows)
    assert combined([fingerprints_of(*rows[:cut]), fingerprints_of(*rows[cut:])]) == expected
    groups = {(r[SOURCE], r[DS], r[REASON] is not None, r[REASON] is None and r[OUTCOME] is not None) for r in rows}
    assert expected.keys() == groups
    assert sum(fingerprint.rows for fingerprint in expected.values()) == len(rows)


@pytest.mark.parametrize(
    "change",
    [{"user_id": "bob"}, {"user_id": None}, {"user_id": ""}, {"exposure_id": 2}, {"cost": 0.25}, {"click": 0},
     {"click": None}, {"late": False}, {"late": None}],
)  # fmt: skip
def test_a_changed_value_is_seen(change):
    assert fingerprints_of(ROW | change).keys() == {USABLE}
    assert fingerprints_of(ROW | change) != fingerprints_of(ROW)


def test_null_and_zero_differ():
    assert fingerprints_of(ROW | {"click": None}) != fingerprints_of(ROW | {"click": 0})
    assert fingerprints_of(ROW | {"late": None}) != fingerprints_of(ROW | {"late": False})


def test_a_value_in_another_column_is_another_row():
    assert fingerprints_of(ROW | {"click": None, "exposure_id": 1}) != fingerprints_of(
        ROW | {"click": 1, "exposure_id": None}
    )


def test_a_row_that_is_repeated_is_seen():
    assert fingerprints_of(ROW, ROW) != fingerprints_of(ROW)
    assert fingerprints_of(ROW, ROW, ROW) != fingerprints_of(ROW)


def test_the_bytes_count_only_where_they_are_kept():
    """A usable row may be written in another way; quarantined rows and outcomes are quarantined with their bytes."""
    rewritten = {RAW: b'"ann",1'}
    assert fingerprints_of(ROW | rewritten) == fingerprints_of(ROW)
    for added in ({REASON: "odd"}, {OUTCOME: "buy"}):
        assert fingerprints_of(ROW | added | rewritten) != fingerprints_of(ROW | added)

"""Rows chosen by a mask."""

import pyarrow as pa

from lakehouse.arrow_types import rows_where

ROWS = pa.table({"value": [1, 2, 3]})


def test_a_row_whose_mask_is_null_is_not_chosen():
    assert rows_where(ROWS, pa.array([True, None, True])).to_pydict() == {"value": [1, 3]}
    assert rows_where(ROWS, pa.array([None, None, None], pa.bool_())).to_pydict() == {"value": []}


def test_rows_that_are_all_chosen_are_not_copied():
    assert rows_where(ROWS, pa.array([True, True, True])) is ROWS
    empty = ROWS.slice(0, 0)
    assert rows_where(empty, pa.array([], pa.bool_())) is empty

"""A worker computes whole users, however their rows are cut into batches."""

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.history import whole_users
from schemas.errors import UserError


def chunks(rows_a_user: list[int], cuts: set[int], **limits: int) -> list[list[int]]:
    """The user of each row, chunk by chunk. rows_a_user: rows of user 0, 1, ... limits: constants of whole_users."""
    users = [k for k, rows in enumerate(rows_a_user) for _ in range(rows)]
    ends = [0, *sorted(cut for cut in cuts if cut <= len(users)), len(users)]
    all_rows = pa.record_batch({"user_id": pa.array(users, pa.int64())})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(whole_users, name, value)
        tables = list(whole_users._whole_users(all_rows.slice(a, b - a) for a, b in pairwise(ends)))
    assert all(len(table) for table in tables)
    return [table.column("user_id").to_pylist() for table in tables]


@given(st.lists(st.integers(1, 9), max_size=12), st.sets(st.integers(0, 60), max_size=15))
def test_no_user_is_cut_and_no_row_lost(rows_a_user, cuts):
    for limits in ({"_CHUNK_ROWS": 4}, {"_CHUNK_BYTES": 32}):
        parts = chunks(rows_a_user, cuts, **limits)
        assert [user for part in parts for user in part] == [k for k, n in enumerate(rows_a_user) for _ in range(n)]
        assert all(not set(part) & set(next_part) for part, next_part in pairwise(parts))


def test_a_chunk_ends_soon_after_its_limit():
    """In batches of three rows: the limit of four, and at most a user and a batch more."""
    assert max(map(len, chunks([2] * 20, set(range(0, 40, 3)), _CHUNK_ROWS=4))) <= 4 + 2 + 3


def test_an_id_that_stands_for_many_people_is_named():
    with pytest.raises(UserError, match="user 1 has more than 6 exposures"):
        chunks([2, 9, 1], {3, 5, 8}, _CHUNK_ROWS=4, _MAX_ROWS_OF_A_USER=6)
    assert chunks([2, 3, 1], {3, 4}, _CHUNK_ROWS=4, _MAX_ROWS_OF_A_USER=6)

"""The exposures of a bucket are cut into chunks of whole users, in the order of users and time."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.history import bucket_exposures
from jobs.history.bucket_exposures import in_order, user_spans, whole_users
from schemas.errors import UserError


def exposures_of(rows_a_user: dict[object, int]) -> pa.Table:
    """Exposures of these users, by falling id, several of them at the same time."""
    users = [user for user, rows in rows_a_user.items() for _ in range(rows)]
    times_ms, ids = [k // 2 % 3 for k in range(len(users))], range(len(users), 0, -1)
    numbers = {"exposed_at_ms": pa.array(times_ms, pa.int64()), "exposure_id": pa.array(ids, pa.int64())}
    return pa.table({"user_id": pa.array(users, None if users else pa.string()), **numbers})


@given(rows=st.lists(st.integers(1, 9), max_size=12), chunk_rows=st.integers(1, 20))
def test_no_user_is_cut_and_no_row_lost(rows, chunk_rows):
    exposures = exposures_of(dict(enumerate(rows)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket_exposures, "CHUNK_ROWS", chunk_rows)
        chunks = list(whole_users(in_order(exposures)))
    order = [("user_id", "ascending"), ("exposed_at_ms", "ascending"), ("exposure_id", "ascending")]
    assert pa.concat_tables([exposures.slice(0, 0), *chunks]).equals(exposures.sort_by(order))
    users = [set(chunk.column("user_id").to_pylist()) for chunk in chunks]
    assert all(not earlier & later for earlier, later in pairwise(users))
    assert all(len(chunk) < chunk_rows + 9 for chunk in chunks)


def test_text_ids_are_sorted_by_their_bytes():
    """As Spark has sorted the files of `exposures`."""
    names = ["b", "", "a", "ab", "B", "10", "9", "é", "z", "\ue000", "\U0001f600", "a b"]
    (rows,) = whole_users(in_order(exposures_of(dict.fromkeys(names, 1))))
    assert rows.column("user_id").to_pylist() == sorted(names, key=str.encode)


def test_an_id_that_stands_for_many_people_is_named(monkeypatch):
    monkeypatch.setattr(bucket_exposures, "CHUNK_ROWS", 4)
    monkeypatch.setattr(bucket_exposures, "MAX_ROWS_OF_A_USER", 6)
    with pytest.raises(UserError, match="user 1 has more than 6 exposures") as error:
        list(whole_users(in_order(exposures_of({0: 2, 1: 9, 2: 1}))))
    assert "\n" not in str(error.value)
    assert len(list(whole_users(in_order(exposures_of({0: 3, 1: 6, 2: 1}))))) == 2  # 9 rows of two users


@given(
    counts=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), max_size=30),
    chunk_rows=st.integers(1, 20),
    max_journeys=st.integers(1, 6),
)
def test_a_span_of_users_has_few_exposures_and_few_journeys(counts, chunk_rows, max_journeys):
    exposures_U, journeys_U = np.array(counts, np.int64).reshape(-1, 2).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket_exposures, "CHUNK_ROWS", chunk_rows)
        spans = list(user_spans(exposures_U, journeys_U, max_journeys))
    assert [user for span in spans for user in span] == list(range(len(counts)))
    for span in spans:
        assert len(span) > 0
        assert journeys_U[span].sum() <= max_journeys
        assert exposures_U[span[:-1]].sum() < chunk_rows

"""Counts by channel, sparse and dense."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from random_exposures import day, random_exposures
from user_chunks import user_chunk

from features.channel_counts import MAX_CHANNELS, channel_names, dense_counts, dense_lists, sparse_counts
from schemas.dataset import get_dataset
from schemas.errors import UserError

COUNTED = ("exposures", "click")
CHANNELS = ["", "left", "mid", "right"]
ENTRY = pa.list_(pa.struct([("channel", pa.string()), ("exposures", pa.int32()), ("click", pa.int32())]))


def test_dense_counts_are_those_that_were_made_sparse():
    counts_WCM = np.random.default_rng(0).integers(0, 3, (len(COUNTED), len(CHANNELS), 50))
    counts_WCM[..., 7] = 0
    lists = sparse_counts(counts_WCM, COUNTED, CHANNELS)
    assert lists[7].as_py() == []
    np.testing.assert_array_equal(dense_counts(lists, COUNTED, CHANNELS).transpose(0, 2, 1), counts_WCM)
    # A slice keeps the values of its neighbours in memory.
    part_WCM = dense_counts(lists[20:30], COUNTED, CHANNELS).transpose(0, 2, 1)
    np.testing.assert_array_equal(part_WCM, counts_WCM[..., 20:30])


def test_other_channels_are_dropped_and_null_has_no_counts():
    left, unknown, other = ({"channel": c, "exposures": 3, "click": 1} for c in ("left", "", "pop-up"))
    lists = pa.array([[left, other], None, [unknown]], ENTRY)
    assert dense_counts(lists, COUNTED, ("right", "left")).tolist() == [
        [[0, 3], [0, 0], [0, 0]],
        [[0, 1], [0, 0], [0, 0]],
    ]


def test_a_step_that_is_not_valid_has_a_null_list():
    lists = dense_lists(np.array([[1, 2], [3, 4]], np.int32), np.array([False, True, False, True]))
    assert lists.to_pylist() == [None, [1, 2], None, [3, 4]]
    assert lists.type == pa.list_(pa.int32())


def exposures_in(channels: list[str | None]) -> pd.DataFrame:
    frame = random_exposures(get_dataset("criteo"), users=3, rows=len(channels), days=1, seed=0)
    return frame.assign(channel=channels)


def test_channels_are_sorted_and_unknown_is_one_of_them():
    criteo = get_dataset("criteo")
    chunk = user_chunk(exposures_in(["b", None, "a", "b"]), criteo, criteo.end_of_day_ms(day(0)))
    assert channel_names(chunk, criteo) == ["", "a", "b"]


def test_a_column_with_more_values_than_channels_is_an_error():
    criteo = get_dataset("criteo")
    names = [f"c{k}" for k in range(MAX_CHANNELS + 1)]
    accepted = user_chunk(exposures_in([*names[1:], None]), criteo, criteo.end_of_day_ms(day(0)))
    assert len(channel_names(accepted, criteo)) == MAX_CHANNELS + 1
    with pytest.raises(UserError, match=f"criteo: more than {MAX_CHANNELS} channels"):
        channel_names(user_chunk(exposures_in(names), criteo, criteo.end_of_day_ms(day(0))), criteo)

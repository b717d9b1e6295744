"""The history of items: against an obvious loop, day by day, and without later outcomes."""

from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_exposures import day, random_exposures

from features.item_history import count_items, fold_item_history, history_columns
from schemas.dataset import Dataset, get_dataset

DAYS = 4
CRITEO, KUAIRAND = get_dataset("criteo"), get_dataset("kuairand")
SEEDS = st.integers(0, 10_000)


def exposures_table(frame: pd.DataFrame, dataset: Dataset) -> pa.Table:
    types = {"int": pa.int32(), "bigint": pa.int64(), "string": pa.string()}
    plain = frame.astype(object).where(frame.notna(), None)
    return pa.table({n: pa.array(plain[n].tolist(), types[dataset.column(n).dtype]) for n in history_columns(dataset)})


def folded(frame: pd.DataFrame, dataset: Dataset, ends: list[int]) -> pa.Table:
    """The history as of the last of the days `ends`, folded in one step for each."""
    history, first = None, 0
    for last in ends:
        days = [exposures_table(frame[frame.ds == day(k)], dataset) for k in range(first, last + 1)]
        parts = [count_items(rows.append_column("ds", pa.repeat("", len(rows))), dataset) for rows in days]
        history, first = fold_item_history(history, parts, dataset, day(last)), last + 1
    assert history is not None
    return history


def naive_history(frame: pd.DataFrame, dataset: Dataset, last: int) -> list[dict]:
    """The same rows without `pending`, value by value."""
    end_ms, rows = dataset.end_of_day_ms(day(last)), []
    past = frame[frame.ds <= day(last)]
    for item in sorted(dataset.items):
        for value, exposures in past.groupby(past[item].dropna().map(str)):
            row = {"item": item, "value": value, "exposures": len(exposures)}
            for gain in dataset.gain_names:
                gained = exposures[exposures[gain] == 1]
                time = dataset.late_gain_times.get(gain)
                row[gain] = len(gained) if time is None else int((gained[time] < end_ms).sum())
            rows.append(row)
    return rows


def random_log(dataset: Dataset, seed: int) -> pd.DataFrame:
    return random_exposures(dataset, users=8, rows=150, days=DAYS, seed=seed)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(dataset=st.sampled_from([CRITEO, KUAIRAND]), seed=SEEDS, last=st.integers(0, DAYS - 1))
def test_counts_equal_those_of_an_obvious_loop(dataset, seed, last):
    frame = random_log(dataset, seed)
    history = folded(frame, dataset, [last])
    assert history.drop_columns("pending").to_pylist() == naive_history(frame, dataset, last)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, ends=st.sets(st.integers(0, DAYS - 2)))
def test_any_steps_give_the_same_history(seed, ends):
    frame = random_log(CRITEO, seed)
    folded_once = folded(frame, CRITEO, [DAYS - 1])
    assert sum(map(len, folded_once.column("pending").to_pylist())) > 0
    assert folded(frame, CRITEO, [*sorted(ends), DAYS - 1]).equals(folded_once)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_no_count_changes_with_what_becomes_known_later(seed):
    frame = random_log(CRITEO, seed)
    end_ms = CRITEO.end_of_day_ms(day(1))
    is_later = (frame.conversion_at_ms >= end_ms).fillna(False)
    unconverted = frame.assign(conversion=frame.conversion.mask(is_later, 0))
    first, second = (folded(f, CRITEO, [1]).drop_columns("pending") for f in (frame, unconverted))
    assert is_later.sum() > 5
    assert first.equals(second)


def test_a_late_gain_counts_from_its_day_on():
    frame = random_log(CRITEO, 0).iloc[:1].copy()
    frame["ds"], frame["campaign"], frame["conversion"] = day(0), "a", 1
    frame["conversion_at_ms"] = CRITEO.end_of_day_ms(day(1))  # the first moment of day 2
    one_item = replace(CRITEO, items=("campaign",))
    assert [folded(frame, one_item, [last]).to_pylist()[0]["conversion"] for last in range(3)] == [0, 0, 1]


def test_a_log_without_items_has_an_empty_history():
    no_items = replace(CRITEO, items=())
    assert folded(random_log(CRITEO, 0), no_items, [0]).num_rows == 0

"""Windows are drawn from few parts of the users, so that a large day is not read whole."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.lake import DS
from mtorl_model.data.windows.reading import WindowPart, enough_parts

DAYS = ("2026-03-01", "2026-03-02", "2026-03-03")


def parts_of(sizes: list[list[int]]) -> list[WindowPart]:
    """A part for each row of sizes, with as many windows of each day."""
    days = [[day for day, size in zip(DAYS, row, strict=True) for _ in range(size)] for row in sizes]
    return [WindowPart(f"{number}", pa.table({DS: pa.array(row, pa.string())})) for number, row in enumerate(days)]


def counts(parts: list[WindowPart]) -> dict[str, int]:
    days = [day for _, windows in parts for day in windows.column(DS).to_pylist()]
    return {day: days.count(day) for day in DAYS}


sizes = st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=8)


@given(sizes, st.lists(st.integers(0, 12), min_size=3, max_size=3), st.integers(0, 99))
def test_each_day_has_its_quota_or_all_its_windows_in_as_few_parts_as_possible_in_this_order(sizes, quotas, seed):
    parts, quota_of = parts_of(sizes), dict(zip(DAYS, quotas, strict=True))
    chosen = enough_parts(parts, quota_of, np.random.default_rng(seed))
    available = counts(parts)
    for day in DAYS:
        assert counts(chosen)[day] >= min(quota_of[day], available[day])
        day_parts = [part for part in chosen if day in part.windows.column(DS).to_pylist()]
        assert counts(day_parts[:-1])[day] < max(quota_of[day], 1)  # without the last of its parts the day has too few
    assert [part.part for part in chosen] == list(dict.fromkeys(part.part for part in chosen))


def test_a_small_day_is_read_whole_and_a_large_one_in_one_part():
    chosen = enough_parts(parts_of([[50, 1, 0]] * 8), {DAYS[0]: 40, DAYS[1]: 40}, np.random.default_rng(0))
    assert counts(chosen) == {DAYS[0]: 50, DAYS[1]: 8, DAYS[2]: 0}


def test_over_many_draws_every_part_is_read():
    first = {
        enough_parts(parts_of([[9, 0, 0]] * 8), {DAYS[0]: 5}, np.random.default_rng(seed))[0].part for seed in range(99)
    }
    assert len(first) == 8

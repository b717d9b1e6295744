"""Windows are drawn from few parts of the users, so that a large day is not read whole."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.lake import DS
from mtorl_model.data.windows.reading import WindowPart, enough_parts

DAYS = ("2026-03-01", "2026-03-02", "2026-03-03")


def parts_of(sizes: list[list[int]]) -> list[WindowPart]:
    """A part for each row of sizes, with as many windows of each day."""
    days = [[day for day, size in zip(DAYS, row, strict=False) for _ in range(size)] for row in sizes]
    return [WindowPart(f"{number}", pa.table({DS: pa.array(row, pa.string())})) for number, row in enumerate(days)]


def counts(parts: list[WindowPart]) -> Counter[str]:
    return Counter(day for _, windows in parts for day in windows.column(DS).to_pylist())


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=8),
    st.lists(st.integers(0, 12), min_size=3, max_size=3),
    st.integers(0, 99),
)
def test_each_day_has_its_quota_or_all_its_windows_and_no_part_too_many(sizes, quotas, seed):
    parts, quota_of = parts_of(sizes), dict(zip(DAYS, quotas, strict=True))
    chosen = enough_parts(parts, quota_of, np.random.default_rng(seed))
    available, drawn_from = counts(parts), counts(chosen)
    for day in DAYS:
        assert drawn_from[day] >= min(quota_of[day], available[day])
        largest = max((counts([part])[day] for part in chosen), default=0)
        assert drawn_from[day] - largest < max(quota_of[day], 1)  # with one part less it has too few
    assert [part.part for part in chosen] == sorted(part.part for part in chosen)


def test_a_small_day_is_read_whole_and_a_large_one_in_one_part():
    chosen = enough_parts(parts_of([[50, 1, 0]] * 8), {DAYS[0]: 40, DAYS[1]: 40}, np.random.default_rng(0))
    assert counts(chosen) == {DAYS[0]: 50, DAYS[1]: 8}


def test_every_day_has_other_parts():
    days = [f"2026-04-{number:02d}" for number in range(1, 31)]
    rows = pa.table({DS: pa.array([day for day in days for _ in range(9)])})
    parts = [WindowPart(f"{number}", rows) for number in range(8)]
    chosen = enough_parts(parts, dict.fromkeys(days, 5), np.random.default_rng(0))
    assert len(chosen) == 8
    assert counts(chosen) == dict.fromkeys(days, 9)


def test_every_window_of_a_day_is_drawn_with_the_same_probability_in_parts_of_any_size():
    sizes, quota, draws = [100] * 7 + [1_000], 50, 1_000
    parts = parts_of([[size] for size in sizes])
    rng = np.random.default_rng(0)
    read = Counter(part.part for _ in range(draws) for part in enough_parts(parts, {DAYS[0]: quota}, rng))
    # Each draw reads one part, of which `quota` windows are drawn.
    for number, size in enumerate(sizes):
        expected = draws * size / sum(sizes)
        assert abs(read[str(number)] - expected) < 5 * np.sqrt(expected)

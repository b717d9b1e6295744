"""The check that an audit's time grows no faster than its day sees through the start-up of the processes."""

import math

from benchmarks.audit_scale import _NOISE, growth

ROWS = (12_500, 250_000, 1_000_000)
START_UP_S = 30.0


def seconds(of_rows) -> list[float]:
    return [START_UP_S + of_rows(rows) for rows in ROWS]


def test_a_time_that_grows_with_the_rows_passes_and_one_that_grows_with_their_square_does_not():
    larger = growth(ROWS)
    assert math.isclose(growth(seconds(lambda rows: rows / 50_000)), larger)
    slow = seconds(lambda rows: (rows / 250_000) ** 2)
    assert slow[2] / slow[1] < ROWS[2] / ROWS[1]  # start-up and all, it would pass
    assert growth(slow) > _NOISE * larger


def test_a_day_that_takes_no_longer_than_the_smallest_has_no_growth_to_judge():
    assert growth([10.0, 9.5, 20.0]) == math.inf

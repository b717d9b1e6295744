"""The growth of an audit's time with its day, measured without the start-up of the processes."""

import math

from benchmarks.audit_scale import _NOISE, growth

ROWS = (12_500, 250_000, 1_000_000)
START_UP_S = 30.0


def seconds(audit_s) -> list[float]:
    return [START_UP_S + audit_s(rows) for rows in ROWS]


def test_linear_growth_passes_and_quadratic_growth_does_not():
    rows_growth = growth(ROWS)
    assert math.isclose(growth(seconds(lambda rows: rows / 50_000)), rows_growth)
    quadratic_s = seconds(lambda rows: (rows / 250_000) ** 2)
    assert quadratic_s[2] / quadratic_s[1] < ROWS[2] / ROWS[1]  # with the start-up it would pass
    assert growth(quadratic_s) > _NOISE * rows_growth


def test_growth_is_infinite_if_the_second_day_takes_no_longer_than_the_first():
    assert growth([10.0, 9.5, 20.0]) == math.inf

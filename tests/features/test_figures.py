"""Amounts in exact units, means, gaps."""

import numpy as np

from features.figures import NEVER, from_nano, gap_s, mean_of_sums, since_s, to_nano, to_summands
from schemas.steps import LARGEST_SUMMAND


def test_a_cost_is_a_whole_number_of_billionths():
    nano = to_nano(np.array([0.1, 0.25, np.nan, 1e-10]))
    assert nano.tolist() == [100_000_000, 250_000_000, 0, 0]
    assert from_nano(nano).tolist() == [0.1, 0.25, 0.0, 0.0]


def test_summands_are_whole_millionths_halves_to_the_even_one():
    micro, is_number = to_summands(np.array([0.5, 2.5e-6, 3.5e-6, np.nan, 1e12, -1e12]))
    largest = round(LARGEST_SUMMAND * 1e6)
    assert micro.tolist() == [500_000, 2, 4, 0, largest, -largest]
    assert is_number.tolist() == [True, True, True, False, True, True]


def test_a_mean_of_no_numbers_is_null():
    assert mean_of_sums(np.array([3_000_000, 0]), np.array([2, 0])).to_pylist() == [1.5, None]


def test_a_first_step_has_no_gap_and_an_event_that_never_happened_no_time():
    at_ms, earlier_ms = np.array([5_500, 5_500]), np.array([5_000, NEVER])
    assert gap_s(at_ms, earlier_ms).tolist() == [0.5, 0.0]
    assert since_s(at_ms, earlier_ms).to_pylist() == [0.5, None]

"""Distances against closed forms and an independent implementation, and the limits that are learned."""

from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from jobs.drift.distances import CATEGORY_GROUPS, in_groups, js_distance, psi, psi_by_chance
from jobs.drift.limits import limit_of
from jobs.drift.results import FIXED, DriftFigure
from jobs.quality.day_profile import MISSING, REMAINING
from schemas.quality import Quality

LARGE = 10_000_000  # so large that the half count added to each group has no visible effect


def test_psi_of_two_groups_is_its_formula():
    assert psi([LARGE // 2, LARGE // 2], [LARGE // 4, 3 * LARGE // 4]) == pytest.approx(
        (0.25 - 0.5) * log(0.5) + (0.75 - 0.5) * log(1.5), rel=1e-5
    )


def test_jensen_shannon_distance_agrees_with_scipy():
    rng = np.random.default_rng(1)
    first, second = rng.integers(1_000_000, 9_000_000, (2, 7))
    assert js_distance(first, second) == pytest.approx(float(jensenshannon(first, second, base=2)), abs=1e-6)


def test_equal_distributions_have_no_distance_and_disjoint_ones_the_largest():
    assert psi([3, 5, 2], [300, 500, 200]) == pytest.approx(0, abs=0.01)
    assert js_distance([LARGE, 0], [LARGE, 0]) == 0
    assert js_distance([LARGE, 0], [0, LARGE]) == pytest.approx(1, abs=1e-4)


def test_a_group_that_is_empty_on_one_side_has_a_finite_distance():
    assert 0 < psi([100, 0], [50, 50]) < 10


def test_chance_seldom_exceeds_its_margin():
    rng = np.random.default_rng(2)
    shares, exceeded = rng.dirichlet(np.ones(10) * 5), 0
    for _ in range(500):
        exceeded += psi(rng.multinomial(800, shares), rng.multinomial(400, shares)) > psi_by_chance(10, 800, 400, 3.0)
    assert 0 <= exceeded <= 10
    assert psi_by_chance(10, 800, 400, 3.0) < 0.1


def test_numbers_are_grouped_in_order_by_the_weight_in_the_reference():
    reference = {"-3": 10, "0": 10, "5": 70, "9": 10, MISSING: 4}
    reference_counts, day_counts = in_groups(reference, {"0": 1, "12": 2, MISSING: 8}, numeric=True)
    assert reference_counts == [10, 10, 70, 10, 0, 4]
    assert day_counts == [0, 1, 0, 0, 2, 8]


def test_numbers_below_and_above_the_reference_are_two_more_groups():
    assert in_groups({"3": 5, "5": 5}, {"-7": 1, "2": 2, "3": 3, "4": 4, "6": 6}, numeric=True) == (
        [0, 5, 0, 5, 0],
        [3, 3, 4, 0, 6],
    )
    constant = in_groups({"0": 1_000}, {"1": 1_000}, numeric=True)
    assert psi(*constant) > 1
    assert js_distance(*constant) > 0.9
    reference = {str(k): 100 for k in range(1, 11)}
    moved = {str(k): 100 for k in range(1, 10)} | {"90": 100}  # the top tenth, multiplied by a million
    assert psi(*in_groups(reference, moved, numeric=True)) > 0.5
    assert in_groups({MISSING: 5}, {"1": 5}, numeric=True) == ([0, 5], [5, 0])


def test_categories_are_the_most_frequent_in_the_reference_and_one_group_for_all_others():
    reference = {f"v{k}": 100 - k for k in range(30)} | {REMAINING: 7}
    reference_counts, day_counts = in_groups(reference, {"v0": 3, "new": 2, REMAINING: 1}, numeric=False)
    assert len(reference_counts) == CATEGORY_GROUPS + 1
    assert reference_counts[0] == 100
    assert reference_counts[-1] == sum(100 - k for k in range(CATEGORY_GROUPS, 30)) + 7
    assert (day_counts[0], day_counts[-1], sum(day_counts)) == (3, 3, 6)


def test_with_too_few_days_the_limit_is_the_fixed_one():
    assert limit_of(0.25, [0.01] * 6, Quality()) == (0.25, FIXED)


def test_a_limit_is_learned_from_median_and_robust_spread():
    values = [0.10, 0.12, 0.14, 0.16, 0.18, 0.20, 0.22]  # median .16, median absolute deviation .04
    assert limit_of(0.25, values, Quality())[0] == pytest.approx(0.16 + 6 * 1.4826 * 0.04)
    assert limit_of(0.25, values, Quality())[1] == "learned from 7 days"
    # Three unusual days of ten change it little; they would double a mean.
    assert limit_of(0.25, [*values, 5.0, 5.0, 5.0], Quality())[0] < 0.25 * 4


def test_a_learned_limit_stays_near_the_fixed_one():
    assert limit_of(0.25, [0.0] * 9, Quality())[0] == pytest.approx(0.125)
    assert limit_of(0.25, [9.0] * 9, Quality())[0] == pytest.approx(1.0)
    # For a ratio, 1 means no difference, so its distance from 1 is halved.
    assert limit_of(1.5, [1.0] * 9, Quality(), no_difference=1.0)[0] == pytest.approx(1.25)


def test_a_limit_that_may_not_rise_does_not_follow_bad_days():
    assert limit_of(0.25, [9.0] * 9, Quality(), may_rise=False)[0] == 0.25
    assert limit_of(0.25, [0.0] * 9, Quality(), may_rise=False)[0] == pytest.approx(0.125)


def test_no_limit_exceeds_the_maximum():
    assert limit_of(0.3, [2.0] * 9, Quality(), maximum=0.95)[0] == 0.95
    assert limit_of(1.1, [], Quality(), maximum=0.95) == (0.95, FIXED)


def test_a_value_that_cannot_be_computed_exceeds_every_limit():
    figure = DriftFigure("psi(x)", "features", "day before", 0.1, 0.2, FIXED, "warning", "", "")
    assert figure.is_within_limit
    assert not replace(figure, value=sqrt(2)).is_within_limit
    assert not replace(figure, value=float("nan")).is_within_limit

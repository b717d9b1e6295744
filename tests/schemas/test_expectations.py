"""Each constructor of a rule builds the Great Expectations rule of its name."""

import pytest

from schemas.contract import Expectation, Severity
from schemas.expectations import (
    between,
    holds,
    mean_between,
    not_empty,
    not_null,
    one_of,
    unique,
    unique_together,
)

IN_SET = "expect_column_values_to_be_in_set"
IN_RANGE = "expect_column_values_to_be_between"


@pytest.mark.parametrize(
    ("built", "rule", "kwargs"),
    [
        (unique("a", rationale="w"), "expect_column_values_to_be_unique", {"column": "a"}),
        (
            unique_together(("a", "b"), rationale="w"),
            "expect_compound_columns_to_be_unique",
            {"column_list": ["a", "b"]},
        ),
        (not_null("a", rationale="w"), "expect_column_values_to_not_be_null", {"column": "a"}),
        (
            not_null("a", rationale="w", min_share=0.9),
            "expect_column_values_to_not_be_null",
            {"column": "a", "mostly": 0.9},
        ),
        (holds("a", rationale="w"), IN_SET, {"column": "a", "value_set": [True]}),
        (holds("a", rationale="w", min_share=0.9), IN_SET, {"column": "a", "value_set": [True], "mostly": 0.9}),
        (one_of("a", (0, 1), rationale="w"), IN_SET, {"column": "a", "value_set": [0, 1]}),
        (between("a", low=0, rationale="w"), IN_RANGE, {"column": "a", "min_value": 0}),
        (between("a", high=1, rationale="w"), IN_RANGE, {"column": "a", "max_value": 1}),
        (
            between("a", low=0, high=1, above_low=True, rationale="w"),
            IN_RANGE,
            {"column": "a", "min_value": 0, "max_value": 1, "strict_min": True},
        ),
        (
            mean_between("a", 0.1, 0.9, rationale="w"),
            "expect_column_mean_to_be_between",
            {"column": "a", "min_value": 0.1, "max_value": 0.9},
        ),
        (
            not_empty("a", rationale="w"),
            "expect_column_value_lengths_to_be_between",
            {"column": "a", "min_value": 1},
        ),
    ],
)
def test_a_constructor_builds_its_rule(built, rule, kwargs):
    assert built == Expectation(rule, kwargs, "w", Severity.CRITICAL)


@pytest.mark.parametrize("constructor", [unique, not_null, holds, not_empty, between])
def test_a_failure_may_be_a_warning(constructor):
    assert constructor("a", rationale="w", severity=Severity.WARNING).severity is Severity.WARNING

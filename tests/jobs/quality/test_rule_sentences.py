"""Rules in plain words."""

import pytest

from jobs.quality.rule_sentences import rule_name, rule_sentence
from schemas.contract import Expectation


@pytest.mark.parametrize(
    ("rule", "kwargs", "expected"),
    [
        ("expect_column_values_to_be_unique", {"column": "id"}, "No two rows have the same id."),
        ("expect_compound_columns_to_be_unique", {"column_list": ["a", "b"]}, "No two rows have the same a and b."),
        ("expect_column_values_to_not_be_null", {"column": "a", "mostly": 0.9},
         "a has a value in at least 90% of the rows."),
        ("expect_column_values_to_be_in_set", {"column": "a", "value_set": [0, 1]}, "a is one of 0, 1."),
        ("expect_column_values_to_be_in_set", {"column": "in_order", "value_set": [True]}, "In every row: in order."),
        ("expect_column_values_to_be_between", {"column": "p", "min_value": 0, "max_value": 1, "strict_min": True},
         "p is more than 0 and at most 1."),
        ("expect_column_values_to_be_between", {"column": "at_ms", "max_value": 1_483_315_199_999},
         "at_ms is at most 2017-01-01 23:59:59.999 UTC."),
        ("expect_table_row_count_to_be_between", {"max_value": 10_000}, "The number of rows is at most 10,000."),
        ("expect_column_values_to_match_regex", {"column": "a", "regex": "x+"},
         "a: column values to match regex (regex x+)."),
    ],
)  # fmt: skip
def test_a_rule_reads_as_a_sentence(rule, kwargs, expected):
    assert rule_sentence(Expectation(rule, kwargs, "why")) == expected


def test_a_rule_is_named_with_its_columns():
    rule = Expectation("expect_compound_columns_to_be_unique", {"column_list": ["a", "b"]}, "why")
    assert rule_name(rule) == "expect_compound_columns_to_be_unique(a, b)"

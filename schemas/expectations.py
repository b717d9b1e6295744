"""Constructors for the rules of an audit. Each returns an Expectation, which Great Expectations evaluates.

A column is a column of the table, or a column that the table's `audit_duckdb_sql` computes. `rationale` is the reason
for the rule; people read it when the rule fails. A failure stops the day unless `severity` is a warning. A rule with
`min_share` must be true in at least that share of the rows. Only `not_null` fails on a null; the other rules skip it.
"""

from collections.abc import Iterable
from typing import Any

from schemas.contract import Expectation, Severity

CRITICAL = Severity.CRITICAL


def unique(column: str, *, rationale: str, severity: Severity = CRITICAL) -> Expectation:
    """No two rows have the same value."""
    return Expectation("expect_column_values_to_be_unique", {"column": column}, rationale, severity)


def unique_together(columns: Iterable[str], *, rationale: str, severity: Severity = CRITICAL) -> Expectation:
    """No two rows have the same values in all of these columns."""
    return Expectation("expect_compound_columns_to_be_unique", {"column_list": list(columns)}, rationale, severity)


def not_null(column: str, *, rationale: str, severity: Severity = CRITICAL, min_share: float = 1.0) -> Expectation:
    """The column has a value."""
    kwargs = {"column": column, **_mostly(min_share)}
    return Expectation("expect_column_values_to_not_be_null", kwargs, rationale, severity)


def holds(column: str, *, rationale: str, severity: Severity = CRITICAL, min_share: float = 1.0) -> Expectation:
    """A boolean column is true. The audit reports the column's name as the rule, so it reads as a statement."""
    kwargs = {"column": column, "value_set": [True], **_mostly(min_share)}
    return Expectation("expect_column_values_to_be_in_set", kwargs, rationale, severity)


def one_of(column: str, values: Iterable[Any], *, rationale: str, severity: Severity = CRITICAL) -> Expectation:
    """The column has one of these values."""
    return Expectation(
        "expect_column_values_to_be_in_set", {"column": column, "value_set": list(values)}, rationale, severity
    )


def between(
    column: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above_low: bool = False,
    rationale: str,
    severity: Severity = CRITICAL,
) -> Expectation:
    """The column is a number from low to high, both included; with `above_low`, low itself is not allowed."""
    kwargs = {"column": column, **_bounds(low, high), **({"strict_min": True} if above_low else {})}
    return Expectation("expect_column_values_to_be_between", kwargs, rationale, severity)


def mean_between(column: str, low: float, high: float, *, rationale: str, severity: Severity = CRITICAL) -> Expectation:
    """The mean of the column over all rows is from low to high, both included."""
    return Expectation(
        "expect_column_mean_to_be_between", {"column": column, **_bounds(low, high)}, rationale, severity
    )


def not_empty(column: str, *, rationale: str, severity: Severity = CRITICAL) -> Expectation:
    """The text of the column has at least one character."""
    kwargs = {"column": column, "min_value": 1}
    return Expectation("expect_column_value_lengths_to_be_between", kwargs, rationale, severity)


def _bounds(low: float | None, high: float | None) -> dict[str, float]:
    bounds = {"min_value": low, "max_value": high}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _mostly(min_share: float) -> dict[str, float]:
    return {"mostly": min_share} if min_share < 1 else {}

"""The rules of Great Expectations as sentences."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from schemas.contract import Expectation


def rule_name(expectation: Expectation) -> str:
    """The rule with the columns it checks: expect_column_values_to_be_unique(exposure_id)."""
    return f"{expectation.rule}({', '.join(rule_columns(expectation))})"


def rule_columns(expectation: Expectation) -> tuple[str, ...]:
    """The columns that a rule is about; none for a rule about the whole table."""
    kwargs = expectation.kwargs
    single = tuple(kwargs[k] for k in ("column", "column_A", "column_B") if k in kwargs)
    return single + tuple(kwargs.get("column_list", ()))


def rule_sentence(expectation: Expectation) -> str:
    """The rule as a sentence: click is one of 0, 1."""
    kwargs = expectation.kwargs
    column = " and ".join(rule_columns(expectation))
    match expectation.rule:
        case "expect_column_values_to_be_unique" | "expect_compound_columns_to_be_unique":
            return f"No two rows have the same {column}."
        case "expect_column_values_to_not_be_null":
            return f"{column} has a value in {_share_of_rows(kwargs)}."
        case "expect_column_values_to_be_in_set" if kwargs["value_set"] == [True]:
            return f"In {_share_of_rows(kwargs)}: {column.replace('_', ' ')}."
        case "expect_column_values_to_be_in_set":
            return f"{column} is one of {', '.join(map(str, kwargs['value_set']))}."
        case "expect_column_values_to_be_between":
            return f"{column} is {_range(kwargs, _date_time if column.endswith('_ms') else _number)}."
        case "expect_column_mean_to_be_between":
            return f"The mean of {column} is {_range(kwargs)}."
        case "expect_column_unique_value_count_to_be_between":
            return f"The number of different values of {column} is {_range(kwargs)}."
        case "expect_column_value_lengths_to_be_between":
            return f"The length of {column} is {_range(kwargs)}."
        case "expect_table_row_count_to_be_between":
            return f"The number of rows is {_range(kwargs)}."
        case rule:
            details = ", ".join(f"{k} {v}" for k, v in kwargs.items() if k != "column")
            return f"{column}: {rule.removeprefix('expect_').replace('_', ' ')} ({details})."


def _share_of_rows(kwargs: dict[str, Any]) -> str:
    return f"at least {kwargs['mostly']:.0%} of the rows" if "mostly" in kwargs else "every row"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _date_time(ms: int) -> str:
    """Milliseconds since 1970 as date and time, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(" ", "milliseconds").replace("+00:00", " UTC")


def _range(kwargs: dict[str, Any], text_of: Callable[[Any], str] = _number) -> str:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low is None and high is None:
        return "any number"
    if low is not None and low == high:
        return f"exactly {text_of(low)}"
    bounds = []
    if low is not None:
        bounds.append(f"{'more than' if kwargs.get('strict_min') else 'at least'} {text_of(low)}")
    if high is not None:
        bounds.append(f"{'less than' if kwargs.get('strict_max') else 'at most'} {text_of(high)}")
    return " and ".join(bounds)

"""Evaluate the rules of an audit: facts about the partition, and expectations of its rows."""

from collections.abc import Sequence
from typing import Any

import duckdb
import pandas as pd

from jobs.quality.audit_results import ABOUT_ROWS, FAILED, HOLDS, NOT_EVALUATED, Outcome
from jobs.quality.facts import Fact
from jobs.quality.partition_counts import query_types
from jobs.quality.rule_sentences import rule_columns, rule_name, rule_sentence
from schemas.contract import Expectation, Table, quoted_name
from schemas.expectations import not_null

_EXAMPLES = 3  # values that break a rule, as many as a result names
_LONGEST_VALUE = 120  # characters


def fact_outcome(fact: Fact) -> Outcome:
    return Outcome(
        fact.name, fact.about, fact.sentence, fact.why, fact.severity.value,
        HOLDS if fact.is_met else FAILED, fact.observation, fact.rows, fact.examples,
    )  # fmt: skip


def evaluate_rows(
    connection: duckdb.DuckDBPyConnection, table: Table, rules: Sequence[Expectation], rows: int
) -> list[Outcome]:
    """The outcome of each rule on the rows of the view `partition`, as `Table.audit_duckdb_sql` flattens them.

    Without rows, only rules about the table as a whole are evaluated. Only columns that a rule mentions are loaded.
    """
    dtypes = query_types(connection, _flat_sql(table))
    columns = list(dict.fromkeys(column for rule in rules for column in rule_columns(rule)))
    # No comparison fails on a computed number that is null or NaN, so it must not be null.
    computed = [c for c in columns if c not in table.column_names and dtypes[c] == "DOUBLE"]
    rules = [*rules, *(not_null(c, rationale="a value that cannot be computed cannot be judged") for c in computed)]
    evaluated = [rule for rule in rules if rows or rule.rule.startswith("expect_table_")]
    frame = flat_frame(connection, table, {c: dtypes[c] for c in dict.fromkeys((*table.key, *columns))})
    # Great Expectations takes seconds to import, and many processes load this module and audit nothing.
    from jobs.quality.validation import validate

    results = validate(frame, evaluated, "BASIC", _EXAMPLES)
    outcomes = {
        id(rule): _row_outcome(rule, result, frame, table.key) for rule, result in zip(evaluated, results, strict=True)
    }
    return [outcomes.get(id(rule)) or not_evaluated(rule) for rule in rules]


def not_evaluated(rule: Expectation) -> Outcome:
    return Outcome(rule_name(rule), ABOUT_ROWS, rule_sentence(rule), rule.rationale, rule.severity.value, NOT_EVALUATED)


def flat_frame(connection: duckdb.DuckDBPyConnection, table: Table, dtypes: dict[str, str]) -> pd.DataFrame:
    """These columns of the flat rows, in memory. dtypes: the DuckDB type of each.

    A boolean that is null counts as false: if a statement cannot be shown to be true, its rule fails.
    """
    expressions = ", ".join(
        f"coalesce({quoted_name(name)}, false) AS {quoted_name(name)}" if dtype == "BOOLEAN" else quoted_name(name)
        for name, dtype in dtypes.items()
    )
    return connection.execute(f"SELECT {expressions or '1 AS row'} FROM ({_flat_sql(table)})").df()


def _flat_sql(table: Table) -> str:
    return table.audit_duckdb_sql or 'SELECT * FROM "partition"'


def _row_outcome(rule: Expectation, result: Any, frame: pd.DataFrame, key: Sequence[str]) -> Outcome:
    details = result.result
    unexpected = details.get("partial_unexpected_list", [])
    return Outcome(
        rule_name(rule), ABOUT_ROWS, rule_sentence(rule), rule.rationale, rule.severity.value,
        HOLDS if result.success else FAILED,
        _short_text(details["observed_value"]) if "observed_value" in details else "",
        details.get("unexpected_count"),
        _examples(rule, unexpected, frame, key),
    )  # fmt: skip


def _examples(rule: Expectation, unexpected: list[Any], frame: pd.DataFrame, key: Sequence[str]) -> tuple[str, ...]:
    """A few rows that break the rule: the value of the rule's column, and the key that identifies the row."""
    columns = rule_columns(rule)
    if not unexpected or len(columns) != 1:
        return tuple(" ".join(f"{name} {_short_text(value)}" for name, value in row.items()) for row in unexpected)
    (column,) = columns
    examples = []
    for row in frame[frame[column].isin(unexpected)].head(_EXAMPLES).to_dict("records"):
        row_key = " ".join(f"{name} {_short_text(row[name])}" for name in key if name != column)
        value = "" if isinstance(row[column], bool) else _short_text(row[column])
        examples.append(f"{value} ({row_key})" if value and row_key else value or row_key)
    return tuple(examples)


def _short_text(value: Any) -> str:
    text = "empty" if pd.isna(value) else f"{value:.12g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."

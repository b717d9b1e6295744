"""A user with most of a day's rows, and channels that the model does not know, are reported by the audits."""

from collections.abc import Iterator

import duckdb
import pytest

from jobs.quality.table_facts import exposure_facts, new_channels_fact
from schemas.contract import Severity
from schemas.quality import Quality


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def exposures(connection: duckdb.DuckDBPyConnection, *, users: int, rows_of_first: int) -> None:
    """Users u1, u2, ... have a row, and u0 has this number of rows."""
    connection.execute(
        f"""CREATE VIEW "partition" AS SELECT 'u0' AS user_id FROM range({rows_of_first})
            UNION ALL SELECT 'u' || range FROM range(1, {users})"""
    )


@pytest.mark.parametrize(
    ("users", "rows_of_first", "is_met"),
    [(21, 20, True), (21, 21, False), (1_000, 100_000, False), (19, 500, True), (100, 1, True)],
)
def test_one_user_with_most_rows_stops_the_day(connection, users, rows_of_first, is_met):
    exposures(connection, users=users, rows_of_first=rows_of_first)
    (fact,) = exposure_facts(connection, Quality())
    assert (fact.is_met, fact.severity) == (is_met, Severity.CRITICAL)
    assert fact.examples == (() if is_met else ("user_id u0",))


def test_a_day_without_rows_has_no_such_rule(connection):
    exposures(connection, users=1, rows_of_first=0)
    assert list(exposure_facts(connection, Quality())) == []


@pytest.mark.parametrize(("new", "is_met"), [(0, True), (5, True), (6, False)])
def test_channels_that_the_model_does_not_know_are_counted_and_named(new, is_met):
    fact = new_channels_fact({"mail": 100 - new, **({"fax": new} if new else {})}, Quality(), ("mail", "sms"))
    assert (fact.is_met, fact.severity) == (is_met, Severity.WARNING)
    assert fact.examples == ((f"fax: {new} exposures",) if new else ())
    assert "a full training is due (mtorl_history_*)" in fact.why
    if not is_met:
        assert fact.observed == f"{new} of 100"

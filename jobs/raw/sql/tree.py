"""Finds in the parsed form of an expression whether its value depends on other rows, the clock or chance."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import duckdb

from schemas.contract import DuckDbSql

# The clock under names that look like columns; a column of such a name is written with its view, as log.localtime.
_CLOCKS = ("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp")
_DATE_PARTS = ("date_part", "datepart")
_DIFFERENCES = ("date_diff", "datediff", "date_sub", "datesub")
_CHANGING = "not the same in each run"
_RULE = "a value may depend on its own row alone"


def row_problem(duckdb_sql: DuckDbSql, database: duckdb.DuckDBPyConnection) -> str | None:
    """Why the value may differ for the same row, in one sentence; None if it cannot, or if DuckDB cannot parse it.

    The log is read in blocks of any size, so a value that depends on other rows depends on how the log was cut.
    """
    for node in _nodes(_tree(duckdb_sql, database)):
        match node.get("class"):
            case "WINDOW":
                return f"it has a window function: {_RULE}"
            case "SUBQUERY":
                return f"it has a subquery: {_RULE}"
            case "FUNCTION" if kind := _refused_functions().get(_function(node)):
                return f"{_function(node)} is {kind}: {_RULE}"
            case "COLUMN_REF" if (name := ".".join(node["column_names"]).lower()) in _CLOCKS:
                return f"{name} is {_CHANGING}: {_RULE}"
    return None


def zone_problem(duckdb_sql: DuckDbSql, database: duckdb.DuckDBPyConnection, *, is_time: bool) -> str | None:
    """How the expression takes a time without a zone as UTC unnoticed; None if it does not.

    is_time: whether its value is a time. The epoch functions read such a time in the zone of the session, as
    jobs/raw/contract_sql.py defines them; the other ways to count from 1970 do not.
    """
    for node in _nodes(_tree(duckdb_sql, database)):
        if node.get("class") == "FUNCTION":
            name, arguments = _function(node), node["arguments"]
            if name in _DATE_PARTS and "epoch" in _texts(arguments[:1]):
                return "extract(epoch ...) and date_part take a time without a zone as UTC: use epoch(...)"
            if is_time and name in _DIFFERENCES:
                return f"{name} takes a time without a zone as UTC: use epoch_ms(...)"
        if is_time and node.get("class") == "CAST" and "TIME ZONE" not in (dtype := _cast_type(node)):
            texts = _texts(node["child"]) if node["child"].get("class") == "CONSTANT" else []
            if dtype != "TIMESTAMPTZ" and any(text == "epoch" or text.startswith("1970-01-01") for text in texts):
                return "a difference from 1970 takes a time without a zone as UTC: use epoch_ms(...)"
    return None


@cache
def _refused_functions() -> dict[str, str]:
    """The functions whose value does not depend on its arguments alone, each with its kind."""
    with duckdb.connect() as database:
        functions = database.execute(
            "SELECT lower(function_name), function_type = 'aggregate' FROM duckdb_functions() "
            "WHERE function_type = 'aggregate' OR stability IN ('VOLATILE', 'CONSISTENT_WITHIN_QUERY')"
        ).fetchall()
        macros = database.execute(
            "SELECT lower(function_name), lower(macro_definition), json_serialize_sql('SELECT ' || macro_definition) "
            "FROM duckdb_functions() WHERE function_type = 'macro'"
        ).fetchall()
    kinds = {name: "an aggregate of several rows" if is_aggregate else _CHANGING for name, is_aggregate in functions}
    kinds["unnest"] = "a function that returns several rows"
    used = {
        name: {_function(n) for n in _nodes(json.loads(t)) if n.get("class") == "FUNCTION"} for name, _, t in macros
    }
    clocks = {name for name, sql, _ in macros if any(clock in sql for clock in _CLOCKS)}
    kinds |= dict.fromkeys(clocks, _CHANGING)
    while new := {
        name: min(kinds[function] for function in names & kinds.keys())
        for name, names in used.items()
        if name not in kinds and names & kinds.keys()
    }:
        kinds |= new
    return kinds


def _tree(duckdb_sql: DuckDbSql, database: duckdb.DuckDBPyConnection) -> Any:
    """The expression as DuckDB parses it; None if it cannot."""
    [(text,)] = database.execute("SELECT json_serialize_sql(?)", [f"SELECT ({duckdb_sql}\n)"]).fetchall()
    parsed = json.loads(text)
    return None if parsed["error"] else parsed["statements"][0]["node"]["select_list"]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All objects of the tree, from the root down."""
    if isinstance(tree, dict):
        yield tree
        tree = [*tree.values()]
    if isinstance(tree, list):
        for part in tree:
            yield from _nodes(part)


def _function(node: dict[str, Any]) -> str:
    return str(node["function_name"]).lower()


def _cast_type(node: dict[str, Any]) -> str:
    return str(node["type_expr"].get("type_name", "")).upper()


def _texts(tree: Any) -> list[str]:
    """The text constants in the tree, in small letters."""
    literals = [node["literal"] for node in _nodes(tree) if node.get("class") == "CONSTANT"]
    return [literal["text"].lower() for literal in literals if literal["kind"] == "STRING"]

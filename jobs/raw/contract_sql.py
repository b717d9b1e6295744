"""The SQL of a contract in DuckDB: evaluated on whole Arrow tables, and checked before a log is read."""

import os
import re
from collections.abc import Mapping
from functools import cache

import duckdb
import pyarrow as pa

from jobs.raw.reader.typed_rows import RAW, SOURCE, typed_schema
from jobs.raw.sql.tree import row_problem, zone_problem
from lakehouse.duckdb_types import duckdb_type
from schemas.contract import DuckDbSql, quoted_name
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.printable import printable

# A time stamp without a zone is read in the zone of the session, as the cast of a text is. DuckDB's own functions would
# take it as UTC, and a contract that forgets the zone would not be noticed.
_EPOCH_MACROS = tuple(
    f"CREATE MACRO {name}(moment TIMESTAMP) AS system.main.{name}(CAST(moment AS TIMESTAMPTZ)), "
    f"(moment TIMESTAMPTZ) AS system.main.{name}(moment), (span INTERVAL) AS system.main.{name}(span)"
    + (f", (number BIGINT) AS system.main.{name}(number)" if name == "epoch_ms" else "")
    for name in ("epoch", "epoch_ms", "epoch_us", "epoch_ns")
)
# What DuckDB adds to the first line of a message. A line end anywhere else is one of a value in the message.
_END_OF_PROBLEM = re.compile(r'\n\s*(?:LINE \d+:|Candidate |Did you mean )|(?<=")\n')
_HINT = (
    " (a contract is DuckDB SQL, which differs from Spark's: 1000 for 1000L, // for div, and double quotes for names)"
)
_TEXT_OF_COLUMN = re.compile(r"(?P<cast>cast\()?(?P<view>\w+)\.(?P<column>\w+)(?(cast) AS varchar\))", re.IGNORECASE)
UTC = "UTC"
UTC_NAMES = (UTC, "Etc/UTC")
# The rows keep their order. A name that no view has is not looked for among the variables of Python. A division by zero
# is an error for `/` as it is for `//`: infinity would be a value of a feature.
_SETTINGS = """
SET preserve_insertion_order = true; SET python_enable_replacements = false;
SET ieee_floating_point_ops = false; SET error_on_division_by_zero = true;
"""


@cache
def _database(process: int) -> duckdb.DuckDBPyConnection:
    """The database of this process, in memory. process: its id; a fork must not use the database of its parent."""
    database = duckdb.connect(config={"threads": 1})
    for macro in _EPOCH_MACROS:
        database.execute(macro)
    return database


def evaluate(
    expressions: Mapping[str, DuckDbSql], views: Mapping[str, pa.Table], dataset: str, zone: str = UTC
) -> pa.Table:
    """The values of the expressions for each row, in order, as columns of their names.

    views: tables of one length, whose rows belong together. zone: in which a time without a zone is read. Raises
    UserError if an expression stops at a row; dataset: its name, for the error.
    """
    try:
        values = _values([*expressions.values()], views, zone)
    except duckdb.Error as error:
        raise _row_fault(expressions, views, dataset, zone, error) from None
    if len(values) != len(next(iter(views.values()))):
        raise UserError(f"dataset {dataset}: an expression returns more or fewer rows than the log has")
    return values.rename_columns([*expressions])


def text_of_column(duckdb_sql: DuckDbSql, views: Mapping[str, pa.Table]) -> pa.DictionaryArray | None:
    """The values of an expression that is a column of texts or whole numbers, or its cast to varchar, as codes.

    None for any other expression. Arrow writes whole numbers as DuckDB does, each distinct number once.
    """
    match = _TEXT_OF_COLUMN.fullmatch(duckdb_sql.strip())
    if match is None or match["view"] not in views or match["column"] not in views[match["view"]].column_names:
        return None
    values = views[match["view"]].column(match["column"])
    if not (pa.types.is_string(values.type) or pa.types.is_int64(values.type)):
        return None
    coded = values.combine_chunks().dictionary_encode()
    return pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.cast(pa.string()))


def select(duckdb_sql: DuckDbSql, view: str, table: pa.Table) -> pa.Table:
    """The rows of a SELECT over the view. Raises duckdb.Error."""
    with _views({view: table}, UTC) as connection:
        return connection.sql(duckdb_sql).to_arrow_table()


def _values(expressions: list[DuckDbSql], views: Mapping[str, pa.Table], zone: str) -> pa.Table:
    with _views(views, zone) as connection:
        return connection.sql(_query(expressions, views)).to_arrow_table()


def _query(expressions: list[DuckDbSql], views: Mapping[str, pa.Table]) -> DuckDbSql:
    # Numbered: an expression cannot name another one.
    columns = ", ".join(f"{in_brackets(expression)} AS _{number}" for number, expression in enumerate(expressions))
    return f"SELECT {columns} FROM {' POSITIONAL JOIN '.join(map(quoted_name, views))}"


def in_brackets(duckdb_sql: DuckDbSql) -> DuckDbSql:
    """The expression as a part of another one; a comment at its end must not hide the bracket."""
    return f"({duckdb_sql}\n)"


def _views(views: Mapping[str, pa.Table], zone: str) -> duckdb.DuckDBPyConnection:
    """A connection with these views, to be closed."""
    connection = _database(os.getpid()).cursor()
    connection.execute(f"SET TimeZone = '{zone}'; {_SETTINGS}")
    for view, table in views.items():
        connection.register(view, table)
    return connection


def _row_fault(
    expressions: Mapping[str, DuckDbSql],
    views: Mapping[str, pa.Table],
    dataset: str,
    zone: str,
    error: duckdb.Error,
) -> UserError:
    """The error of the first expression that stops at a row, and the first such row; error: that of all together."""
    name, row = "an expression", ""
    for expression_name, expression in expressions.items():
        if expression_error := _error(expression, views, zone):
            first_row, error = _first_row(expression, views, zone, expression_error)
            name, row = expression_name, _row_text(first_row)
            break
    problem = first_line(error).partition(". Use TRY")[0]
    return UserError(
        f"dataset {dataset}, {name}: it stops at a row of the log: {problem}: use TRY(...), try_cast or a similar "
        f"function in it{row}"
    )


def _error(duckdb_sql: DuckDbSql, views: Mapping[str, pa.Table], zone: str) -> duckdb.Error | None:
    try:
        _values([duckdb_sql], views, zone)
    except duckdb.Error as error:
        return error
    return None


def _first_row(
    duckdb_sql: DuckDbSql, views: Mapping[str, pa.Table], zone: str, error: duckdb.Error
) -> tuple[Mapping[str, pa.Table], duckdb.Error]:
    """The first row of the views at which the expression stops, and its error; error: that of all rows."""
    while (rows := len(next(iter(views.values())))) > 1:
        first_half = {view: table.slice(0, rows // 2) for view, table in views.items()}
        first_error = _error(duckdb_sql, first_half, zone)
        if first_error:
            views, error = first_half, first_error
        else:
            views = {view: table.slice(rows // 2) for view, table in views.items()}
            error = _error(duckdb_sql, views, zone) or error
    return views, error


def _row_text(views: Mapping[str, pa.Table]) -> str:
    """The file and the text of the row, for the end of an error; empty if the views have no raw row."""
    for table in views.values():
        if RAW in table.column_names and len(table):
            source, raw = table.column(SOURCE)[0].as_py(), table.column(RAW)[0].as_py()
            return f"; the first row, of {printable(source)}: {printable(raw, 100)}"
    return ""


def check_expressions(dataset: Dataset) -> None:
    """Raises UserError for the first expression of the contract that DuckDB cannot read: one line that names it."""
    views = {file.view: typed_schema(file).empty_table() for file in dataset.raw_files}
    for lookup in dataset.lookups:
        if lookup.duckdb_sql:
            try:
                views[lookup.file.view] = select(lookup.duckdb_sql, lookup.file.view, views[lookup.file.view])
            except duckdb.Error as error:
                raise UserError(f"dataset {dataset.name}, the SELECT of a lookup: {first_line(error)}") from None
    dtypes = {d.column.name: d.column.dtype for d in (dataset.user_id, *dataset.columns)}
    values = [
        (name, f"CAST({in_brackets(sql)} AS {duckdb_type(dtypes[name])})" if name in dtypes else sql, own_views)
        for name, sql, own_views in dataset.value_expressions
    ]
    with _views(views, UTC) as connection:
        times = {name for name, _, _ in dataset.time_expressions} | {*dataset.late_gain_times.values()}
        for name, duckdb_sql, _ in dataset.expressions:
            reason = row_problem(duckdb_sql, connection)
            if dataset.timezone not in UTC_NAMES:
                reason = reason or zone_problem(duckdb_sql, connection, is_time=name in times)
            if reason:
                raise UserError(f"dataset {dataset.name}, {name}: {reason}, in: {_one_line(duckdb_sql)}")
        if dataset.user_id.column.dtype in ("int", "bigint"):
            name, duckdb_sql, own_views = dataset.value_expressions[0]
            dtype = _type(connection, duckdb_sql, {view: views[view] for view in own_views}, dataset, name)
            if not pa.types.is_integer(dtype):
                raise UserError(
                    f"dataset {dataset.name}, {name}: it must be an integer, and its type is {dtype}: read the column "
                    f"as bigint, or declare {name} as string and cast it to varchar, in: {_one_line(duckdb_sql)}"
                )
        for expressions, problem in (
            (values, None),
            ((*dataset.time_expressions, *dataset.number_expressions), _not_a_number),
            (dataset.conditions, _not_a_condition),
        ):
            for names in dict.fromkeys(names for _, _, names in expressions):
                named = [(name, sql) for name, sql, own_views in expressions if own_views == names]
                types = _types_of_named(connection, named, {view: views[view] for view in names}, dataset)
                for (name, sql), dtype in zip(named, types, strict=True):
                    if problem and (reason := problem(dtype)):
                        raise UserError(f"dataset {dataset.name}, {name}: {reason} in: {_one_line(sql)}")


def _types_of_named(
    connection: duckdb.DuckDBPyConnection,
    named: list[tuple[str, DuckDbSql]],
    views: Mapping[str, pa.Table],
    dataset: Dataset,
) -> list[pa.DataType]:
    """The types of the expressions. Raises UserError for the first that DuckDB cannot read."""
    try:
        return _types(
            connection, [duckdb_sql for _, duckdb_sql in named], views
        )  # of all at once, which takes a tenth of the time
    except (duckdb.Error, ValueError):
        return [_type(connection, duckdb_sql, views, dataset, name) for name, duckdb_sql in named]


def _type(
    connection: duckdb.DuckDBPyConnection,
    duckdb_sql: DuckDbSql,
    views: Mapping[str, pa.Table],
    dataset: Dataset,
    name: str,
) -> pa.DataType:
    try:
        return _types(connection, [duckdb_sql], views)[0]
    except (duckdb.Error, ValueError) as error:
        problem = f"{first_line(error)} in: {_one_line(duckdb_sql)}"
        hint = _HINT if isinstance(error, duckdb.ParserException | duckdb.CatalogException) else ""
        raise UserError(f"dataset {dataset.name}, {name}: {problem}{hint}") from None


def _types(
    connection: duckdb.DuckDBPyConnection, expressions: list[DuckDbSql], views: Mapping[str, pa.Table]
) -> list[pa.DataType]:
    """The types of the expressions over empty views. Raises duckdb.Error; ValueError for one that returns a row."""
    values = connection.sql(_query(expressions, views)).to_arrow_table()
    if len(values):
        raise ValueError("it has to return a value for each row")
    return values.schema.types


def _one_line(duckdb_sql: DuckDbSql) -> str:
    return " ".join(duckdb_sql.split())


def _not_a_condition(dtype: pa.DataType) -> str | None:
    return None if pa.types.is_boolean(dtype) else f"it must be a condition, and its type is {dtype}"


def _not_a_number(dtype: pa.DataType) -> str | None:
    is_number = pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype)
    return None if is_number else f"it must be a number, and its type is {dtype}: use try_cast"


def first_line(error: Exception) -> str:
    """The first line of the error without its kind. A line end of a quoted value is written as its escape."""
    problem = _END_OF_PROBLEM.split(str(error), maxsplit=1)[0].strip()
    _, _, without_kind = problem.partition(" Error: ")
    return printable(without_kind or problem, 300) or type(error).__name__

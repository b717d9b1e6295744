"""A published partition as DuckDB sees it: the view `partition`, its columns, what is missing in them."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pandas as pd

from jobs.ddl import duckdb_type
from schemas.contract import Column, Table

_MEMORY = "2GB"  # DuckDB spills to disk beyond it
_FLOATS = ("DOUBLE", "FLOAT")


def data_files(partition: Path) -> list[Path]:
    """The partition's Parquet files, in the order of their names."""
    return sorted(p for p in partition.glob("*.parquet") if not p.name.startswith(("_", ".")))


@contextmanager
def opened(partition: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the view `partition` over all data files (at least one).

    sha2 and conv are there as in Spark, so that `schemas.splits.split_sql` reads the same in both.
    Raises duckdb.Error where a file is no Parquet file.
    """
    with tempfile.TemporaryDirectory(prefix="audit-") as spill, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{_MEMORY}'")
        connection.execute(f"SET temp_directory = {_text(spill)}")
        connection.execute("SET enable_progress_bar = false")
        connection.execute("CREATE MACRO sha2(text, bits) AS sha256(text)")
        connection.execute("CREATE MACRO conv(digits, from_base, to_base) AS CAST('0x' || digits AS UBIGINT)")
        connection.execute(f'CREATE VIEW "partition" AS SELECT * FROM {_source(data_files(partition))}')
        yield connection


def columns_found(connection: duckdb.DuckDBPyConnection, partition: Path) -> dict[str, str]:
    """DuckDB type of each column that every file holds; several types, joined by ' or ', where the files differ."""
    per_file = [_described(connection, f"FROM {_source([file])}") for file in data_files(partition)]
    return {
        name: " or ".join(dict.fromkeys(found[name] for found in per_file))
        for name in per_file[0]
        if all(name in found for found in per_file)
    }


def columns_wanted(connection: duckdb.DuckDBPyConnection, table: Table) -> dict[str, str]:
    """The contract's columns in DuckDB's spelling, to compare with `columns_found`."""
    nulls = ", ".join(f"CAST(NULL AS {duckdb_type(c.dtype)}) AS {_name(c.name)}" for c in table.columns)
    return _described(connection, f"SELECT {nulls}")


def row_count(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute('SELECT count(*) FROM "partition"').fetchall()[0][0])


def label_count(connection: duckdb.DuckDBPyConnection) -> int:
    """Steps that bear a loss. Needs: is_label (a list a row)."""
    query = 'SELECT coalesce(sum(len(list_filter(is_label, lambda label: label))), 0) FROM "partition"'
    return int(connection.execute(query).fetchall()[0][0])


def new_user_count(connection: duckdb.DuckDBPyConnection, today: Path, earlier: Iterable[Path]) -> int:
    """Users of the partition `today` who are in none of the `earlier` ones. Needs: user_id, in all of them."""
    query = f"SELECT count(*) FROM (SELECT DISTINCT user_id FROM {_source(data_files(today))})"
    if past := [file for partition in earlier for file in data_files(partition)]:
        query += f" ANTI JOIN (SELECT user_id FROM {_source(past)}) USING (user_id)"
    return int(connection.execute(query).fetchall()[0][0])


def null_counts(connection: duckdb.DuckDBPyConnection, columns: Iterable[Column]) -> dict[str, int]:
    """Rows in which a column is null, by column; nested columns are counted without leaving DuckDB."""
    return _counted(connection, {c.name: f"{_name(c.name)} IS NULL" for c in columns})


def unfinite_counts(connection: duckdb.DuckDBPyConnection, columns: Iterable[Column]) -> dict[str, int]:
    """Rows with NaN or an infinity, by column; for columns that hold numbers or lists of them."""
    tests = {}
    for column in columns:
        kind = duckdb_type(column.dtype)
        if kind in _FLOATS:
            tests[column.name] = f"NOT isfinite({_name(column.name)})"
        elif kind.removesuffix("[]") in _FLOATS:
            tests[column.name] = f"list_bool_or(list_transform({_name(column.name)}, lambda v: NOT isfinite(v)))"
    return _counted(connection, tests)


def flat_types(connection: duckdb.DuckDBPyConnection, table: Table) -> dict[str, str]:
    """Columns of the table's flat view (`Table.audit_sql`) and their DuckDB types."""
    return _described(connection, flat_sql(table))


def flat_sql(table: Table) -> str:
    return table.audit_sql or 'SELECT * FROM "partition"'


def flat_frame(connection: duckdb.DuckDBPyConnection, table: Table, columns: dict[str, str]) -> pd.DataFrame:
    """The named columns (with their types) of the flat view, in memory.

    A boolean that SQL cannot decide (null) counts as false: what cannot be shown to hold does not hold.
    """
    chosen = ", ".join(
        f"coalesce({_name(name)}, false) AS {_name(name)}" if kind == "BOOLEAN" else _name(name)
        for name, kind in columns.items()
    )
    return connection.execute(f"SELECT {chosen or '1 AS row'} FROM ({flat_sql(table)})").df()


def _counted(connection: duckdb.DuckDBPyConnection, tests: dict[str, str]) -> dict[str, int]:
    if not tests:
        return {}
    counts = ", ".join(f"count(*) FILTER ({test})" for test in tests.values())
    found = connection.execute(f'SELECT {counts} FROM "partition"').fetchall()[0]
    return dict(zip(tests, map(int, found), strict=True))


def _described(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {query}").fetchall()}


def _source(files: Iterable[Path]) -> str:
    listed = ", ".join(_text(os.fspath(file)) for file in files)
    return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

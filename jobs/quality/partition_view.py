"""A published partition as DuckDB sees it: the view `partition`, its columns, what is missing in them."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pandas as pd

from jobs.quality.ddl import duckdb_type
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
        connection.execute(f'CREATE VIEW "partition" AS SELECT * FROM {source(partition)}')
        yield connection


def read_fault(partition: Path) -> duckdb.Error | None:
    """What stops a reader of every value of every data file; None where nothing does."""
    try:
        with opened(partition) as connection:
            connection.execute('SELECT bit_xor(hash(row)) FROM "partition" AS row').fetchall()
    except duckdb.Error as error:
        return error
    return None


def source(partition: Path) -> str:
    """The rows of a partition (it has at least one file), to select from."""
    return _files_sql(data_files(partition))


def columns_found(connection: duckdb.DuckDBPyConnection, partition: Path) -> dict[str, str]:
    """DuckDB type of each column that every file holds; several types, joined by ' or ', where the files differ."""
    per_file = [_described(connection, f"FROM {_files_sql([file])}") for file in data_files(partition)]
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
    query = f"SELECT count(*) FROM (SELECT DISTINCT user_id FROM {source(today)})"
    if past := [file for partition in earlier for file in data_files(partition)]:
        query += f" ANTI JOIN (SELECT user_id FROM {_files_sql(past)}) USING (user_id)"
    return int(connection.execute(query).fetchall()[0][0])


def stranger_count(connection: duckdb.DuckDBPyConnection, known: Path) -> int:
    """Rows whose user is not in the partition `known`. Needs: user_id, in both."""
    users = f"SELECT user_id FROM {source(known)}"
    query = f'SELECT count(*) FROM "partition" ANTI JOIN ({users}) USING (user_id)'
    return int(connection.execute(query).fetchall()[0][0])


def user_splits(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Users by split. Needs: user_id, split."""
    rows = connection.execute('SELECT split, count(DISTINCT user_id) FROM "partition" GROUP BY split').fetchall()
    return {split: int(users) for split, users in rows}


def commonest_reasons(quarantine: Path, most: int = 3) -> tuple[str, ...]:
    """Why most rows of a quarantine partition were refused, and from which file."""
    if not data_files(quarantine):
        return ()
    with opened(quarantine) as connection:
        rows = connection.execute(
            'SELECT reason, source_file, count(*) AS n FROM "partition" GROUP BY ALL ORDER BY n DESC, 1, 2 LIMIT ?',
            [most],
        ).fetchall()
    return tuple(f"{n:,} in {file}: {reason}" for reason, file, n in rows)


def means(connection: duckdb.DuckDBPyConnection, columns: Iterable[str], where: str) -> dict[str, tuple[float, int]]:
    """Mean and number of rows of each column, over the rows of a condition; columns without such rows left out."""
    found = {}
    for name in columns:
        mean, rows = connection.execute(
            f'SELECT avg({_name(name)}), count({_name(name)}) FROM "partition" WHERE {where}'
        ).fetchall()[0]
        if rows:
            found[name] = (float(mean), int(rows))
    return found


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
    """Columns of the table's flat view (`Table.audit_duckdb_sql`) and their DuckDB types."""
    return _described(connection, flat_sql(table))


def flat_sql(table: Table) -> str:
    return table.audit_duckdb_sql or 'SELECT * FROM "partition"'


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


def _files_sql(files: Iterable[Path]) -> str:
    listed = ", ".join(_text(os.fspath(file)) for file in files)
    return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

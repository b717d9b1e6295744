"""The queries of an audit: columns and their types, missing and non-finite values, users, labels.

Every connection has the partition's rows as the view `partition`: see lakehouse.duckdb_view.
"""

from collections.abc import Iterable

import duckdb

from lakehouse.duckdb_types import duckdb_type
from lakehouse.duckdb_view import files_sql, open_view, rows_sql
from lakehouse.lake import Partition
from lakehouse.storage.data_files import part_of
from schemas.contract import Column, Table, quoted_name
from schemas.printable import printable

_FLOATS = ("DOUBLE", "FLOAT")


def column_types(connection: duckdb.DuckDBPyConnection, partition: Partition) -> dict[str, str]:
    """The DuckDB type of each column that every file has. If files differ, their types are joined by ' or '."""
    types_per_file = [query_types(connection, f"FROM {files_sql([file])}") for file in partition.files()]
    return {
        name: " or ".join(dict.fromkeys(types[name] for types in types_per_file))
        for name in types_per_file[0]
        if all(name in types for types in types_per_file)
    }


def contract_types(connection: duckdb.DuckDBPyConnection, table: Table) -> dict[str, str]:
    """The contract's columns with their DuckDB types, to compare with `column_types`."""
    nulls = ", ".join(f"CAST(NULL AS {duckdb_type(c.dtype)}) AS {quoted_name(c.name)}" for c in table.columns)
    return query_types(connection, f"SELECT {nulls}")


def query_types(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    """The columns that a query returns, with their DuckDB types."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {query}").fetchall()}


def row_count(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute('SELECT count(*) FROM "partition"').fetchall()[0][0])


def null_counts(connection: duckdb.DuckDBPyConnection, columns: Iterable[Column]) -> dict[str, int]:
    """The number of rows in which each column is null."""
    return _counts_where(connection, {c.name: f"{quoted_name(c.name)} IS NULL" for c in columns})


def non_finite_counts(connection: duckdb.DuckDBPyConnection, columns: Iterable[Column]) -> dict[str, int]:
    """The number of rows with NaN or an infinity, for each column of floats or of lists of floats."""
    conditions = {}
    for column in columns:
        dtype = duckdb_type(column.dtype)
        if dtype in _FLOATS:
            conditions[column.name] = f"NOT isfinite({quoted_name(column.name)})"
        elif dtype.removesuffix("[]") in _FLOATS:
            is_bad = f"list_transform({quoted_name(column.name)}, lambda v: NOT isfinite(v))"
            conditions[column.name] = f"list_bool_or({is_bad})"
    return _counts_where(connection, conditions)


def label_count(connection: duckdb.DuckDBPyConnection) -> int:
    """The number of steps that are labels. Needs first_label and last_step."""
    query = 'SELECT coalesce(sum(last_step - first_label + 1), 0) FROM "partition"'
    return int(connection.execute(query).fetchall()[0][0])


def steps_not_labelled_once(connection: duckdb.DuckDBPyConnection, exposures: Partition, steps: Partition) -> int:
    """The number of steps of the day that are not in one window as a label, and of labels that are other steps.

    The first step of a journey is not counted. Needs user_id, first_label and last_step in the windows; exposure_id in
    the other tables, user_id in `exposures` and journey_position in `steps`.
    """
    places = ['SELECT user_id, unnest(generate_series(first_label, last_step)) AS place, 1 AS labels FROM "partition"']
    if exposures.files() and steps.files():
        users = f"(SELECT exposure_id, user_id FROM {rows_sql([exposures])})"
        places.append(
            f"SELECT user_id, journey_position, 0 FROM {rows_sql([steps])} JOIN {users} USING (exposure_id)"
            " WHERE journey_position > 0"
        )
    query = f"""
        SELECT count(*) FROM (
            FROM ({" UNION ALL ".join(places)}) SELECT count(*) AS n, sum(labels) AS labels GROUP BY user_id, place)
        WHERE n <> 2 OR labels <> 1"""
    return int(connection.execute(query).fetchall()[0][0])


def largest_user(connection: duckdb.DuckDBPyConnection) -> tuple[str, int, int]:
    """The user with most rows, their number, and the number of users. Needs user_id and at least one row."""
    query = 'SELECT CAST(user_id AS VARCHAR), count(*) AS n, count(*) OVER () FROM "partition" GROUP BY user_id'
    user, rows, users = connection.execute(f"{query} ORDER BY n DESC, 1 LIMIT 1").fetchall()[0]
    return str(user), int(rows), int(users)


def exposures_by_channel(connection: duckdb.DuckDBPyConnection, exposures: Partition) -> dict[str, int]:
    """The number of exposures of each channel, most first; those without a channel are left out."""
    query = f"SELECT channel, count(*) FROM {rows_sql([exposures])} WHERE channel <> '' GROUP BY 1 ORDER BY 2 DESC, 1"
    return {channel: int(count) for channel, count in connection.execute(query).fetchall()}


def new_user_count(
    connection: duckdb.DuckDBPyConnection, today: Partition, earlier_partitions: Iterable[Partition]
) -> int:
    """The number of users of `today` who are in none of the earlier partitions. Needs user_id in all of them."""
    query = f"SELECT count(*) FROM (SELECT DISTINCT user_id FROM {rows_sql([today])})"
    earlier_files = [file for partition in earlier_partitions for file in partition.files()]
    if earlier_files:
        query += f" ANTI JOIN (SELECT user_id FROM {files_sql(earlier_files)}) USING (user_id)"
    return int(connection.execute(query).fetchall()[0][0])


def unknown_user_rows(connection: duckdb.DuckDBPyConnection, known_users: Iterable[Partition]) -> int:
    """The number of rows whose user is in none of the other partitions. Needs user_id in all of them."""
    users = f"SELECT user_id FROM {rows_sql(known_users)}"
    query = f'SELECT count(*) FROM "partition" ANTI JOIN ({users}) USING (user_id)'
    return int(connection.execute(query).fetchall()[0][0])


def users_per_split(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """The number of users in each split. Needs user_id and split."""
    rows = connection.execute('SELECT split, count(DISTINCT user_id) FROM "partition" GROUP BY split').fetchall()
    return {split: int(users) for split, users in rows}


def most_frequent_reasons(quarantine: Partition, limit: int = 3) -> tuple[str, ...]:
    """The reasons of most rows in a quarantine partition: number of rows, raw file and reason, most rows first."""
    if not quarantine.files():
        return ()
    with open_view(quarantine) as connection:
        rows = connection.execute(
            'SELECT reason, source_file, count(*) AS n FROM "partition" GROUP BY ALL ORDER BY n DESC, 1, 2 LIMIT ?',
            [limit],
        ).fetchall()
    return tuple(f"{n:,} in {printable(file)}: {printable(reason)}" for reason, file, n in rows)


def means(
    connection: duckdb.DuckDBPyConnection, columns: Iterable[str], condition: str
) -> dict[str, tuple[float, int]]:
    """The mean of each column and its number of values, over the rows that meet an SQL condition.

    A column without a value in these rows is left out.
    """
    result = {}
    for name in columns:
        mean, count = connection.execute(
            f'SELECT avg({quoted_name(name)}), count({quoted_name(name)}) FROM "partition" WHERE {condition}'
        ).fetchall()[0]
        if count:
            result[name] = (float(mean), int(count))
    return result


def _counts_where(connection: duckdb.DuckDBPyConnection, conditions: dict[str, str]) -> dict[str, int]:
    """The number of rows that meet each of these named SQL conditions."""
    if not conditions:
        return {}
    query = ", ".join(f"count(*) FILTER ({condition})" for condition in conditions.values())
    counts = connection.execute(f'SELECT {query} FROM "partition"').fetchall()[0]
    return dict(zip(conditions, map(int, counts), strict=True))


def misplaced_rows(partition: Partition, exposures: Partition) -> int:
    """How many rows have another exposure_id than the same row of the same file of `exposures`, or no counterpart."""
    rows, exposure_rows = ({part_of(file): file for file in p.files()} for p in (partition, exposures))
    count = 0
    with open_view(partition) as connection:
        for part in rows.keys() | exposure_rows.keys():
            pair = [files.get(part) for files in (rows, exposure_rows)]
            if None in pair:
                query = f"SELECT count(*) FROM {files_sql(file for file in pair if file)}"
            else:
                tables = " POSITIONAL JOIN ".join(
                    f"(SELECT exposure_id AS {name} FROM {files_sql([file])}) AS {name}_rows"
                    for name, file in zip(("own", "expected"), pair, strict=True)
                )
                query = f"SELECT count(*) FROM {tables} WHERE own IS DISTINCT FROM expected"
            count += int(connection.execute(query).fetchall()[0][0])
    return count

"""A published partition in DuckDB: its rows are the view `partition` of a connection."""

import atexit
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import duckdb

from lakehouse.lake import Partition
from lakehouse.storage.data_files import DamagedFile, copy_removed, has_its_content

_MEMORY = "2GB"  # DuckDB spills to disk beyond it


@contextmanager
def open_view(*partitions: Partition) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the view `partition` over all files of a partition that has at least one.

    Of several partitions of days, the view has the newest row of each user (lakehouse.journeys), as it was at
    the end of its day.

    The macros sha2 and conv work like Spark's functions, so that `schemas.splits.split_sql` runs in both engines.
    What a caller creates in the connection should be temporary: the database outlives the connection.

    Raises DamagedFile if a query fails because a file has other content than was stored.
    """
    try:
        rows = rows_sql(partitions) if len(partitions) == 1 else newest_rows_sql(partitions)
        with _database(os.getpid()).cursor() as connection:
            connection.execute(f'CREATE TEMP VIEW "partition" AS SELECT * FROM {rows}')
            yield connection
    except duckdb.Error as error:
        if isinstance(error, duckdb.FatalException | duckdb.InternalException):  # the database answers nothing more
            _database.cache_clear()
        if not isinstance(error, _NO_DAMAGE):
            for file in (file for partition in partitions for file in partition.files()):
                if not has_its_content(file):
                    fault = f"cannot be read ({str(error).splitlines()[0][:100]})"
                    if copy_removed(file):
                        fault += "; this copy of an object has been removed, so run again"
                    raise DamagedFile(file, fault) from error
        raise


# Errors of a query or of the machine, whatever the files contain.
_NO_DAMAGE = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException, duckdb.OutOfMemoryException)


@cache
def _database(process: int) -> duckdb.DuckDBPyConnection:
    """The database of this process, in memory. To start one takes longer than most queries, so it is started once.

    process: its id. A fork has no threads of its parent's database and must not use it.
    """
    spill = tempfile.TemporaryDirectory(prefix="duckdb-")
    atexit.register(spill.cleanup)
    database = duckdb.connect()
    database.execute(f"SET memory_limit = '{_MEMORY}'")
    database.execute(f"SET temp_directory = {_text(spill.name)}")
    database.execute("SET enable_progress_bar = false")
    database.execute("SET enable_external_file_cache = false")  # a file is read as it is now
    database.execute("CREATE MACRO sha2(text, bits) AS sha256(text)")
    database.execute("CREATE MACRO conv(digits, from_base, to_base) AS CAST('0x' || digits AS UBIGINT)")
    return database


def rows_sql(partitions: Iterable[Partition]) -> str:
    """The rows of these partitions as a table expression of SQL. Together they must have at least one file."""
    return files_sql(file for partition in partitions for file in partition.files())


def newest_rows_sql(partitions: Iterable[Partition]) -> str:
    """The newest row of each user in these partitions of days as a table expression of SQL."""
    rows = " UNION ALL BY NAME ".join(
        f"SELECT *, '{partition.day}' AS _day FROM {files_sql(files)}"
        for partition in partitions
        if (files := partition.files())
    )
    newest = "row_number() OVER (PARTITION BY user_id ORDER BY _day DESC) = 1"
    return f"(SELECT * EXCLUDE _day FROM ({rows}) QUALIFY {newest})"


def files_sql(files: Iterable[Path]) -> str:
    """The rows of Parquet files as a table expression of SQL; a column that a file lacks is null in its rows."""
    paths = ", ".join(_text(os.fspath(file)) for file in files)
    return f"read_parquet([{paths}], hive_partitioning = false, union_by_name = true)"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

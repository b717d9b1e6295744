"""A partition as a DuckDB view: the database behind it is shared, the view is not."""

import multiprocessing
import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse import duckdb_view
from lakehouse.duckdb_view import open_view, rows_sql
from lakehouse.lake import Lake, Partition
from lakehouse.storage.scratch import work_folder


def published(root: Path, values: list[int]) -> Partition:
    lake = Lake(root)
    with work_folder() as staged:
        pq.write_table(pa.table({"x": values}), staged / "part-0.parquet")
        lake["exposures", "kuairand", "2022-04-10"].publish(staged, inputs={}, code="c")
    return lake["exposures", "kuairand", "2022-04-10"]


def values(partition: Partition) -> list[int]:
    with open_view(partition) as connection:
        return [x for (x,) in connection.execute('SELECT x FROM "partition" ORDER BY x').fetchall()]


def test_views_that_are_open_at_once_do_not_see_each_other(tmp_path):
    one, two = published(tmp_path / "one", [1]), published(tmp_path / "two", [2])
    with open_view(one) as first, open_view(two) as second:
        assert first.execute('FROM "partition"').fetchall() == [(1,)]
        assert second.execute('FROM "partition"').fetchall() == [(2,)]


def test_nothing_of_an_earlier_view_is_left(tmp_path):
    partition = published(tmp_path / "lake", [1])
    for _ in range(2):
        with open_view(partition) as connection:
            connection.execute('CREATE TEMP TABLE y AS FROM "partition"')
    assert values(partition) == [1]
    with open_view(partition) as connection, pytest.raises(duckdb.CatalogException):
        connection.execute("FROM y")


def test_a_partition_that_is_published_again_is_read_again(tmp_path):
    partition = published(tmp_path / "lake", [1])
    assert values(partition) == [1]
    published(tmp_path / "lake", [7])
    assert values(partition) == [7]


def test_a_fork_has_a_database_of_its_own(tmp_path):
    rows = rows_sql([published(tmp_path / "lake", [3, 1])])

    def read() -> list[int]:
        return [x for (x,) in duckdb_view._database(os.getpid()).execute(f"SELECT x FROM {rows} ORDER BY x").fetchall()]

    assert read() == [1, 3]
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    fork = context.Process(target=lambda: queue.put(read()), daemon=True)
    fork.start()
    fork.join(60)
    assert fork.exitcode == 0
    assert queue.get() == [1, 3]


def test_a_database_that_has_failed_is_replaced(tmp_path):
    partition = published(tmp_path / "lake", [1])
    assert values(partition) == [1]
    before = duckdb_view._database(os.getpid())
    with pytest.raises(duckdb.FatalException), open_view(partition):
        raise duckdb.FatalException
    assert values(partition) == [1]
    assert duckdb_view._database(os.getpid()) is not before

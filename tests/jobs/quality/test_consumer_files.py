"""Plain Parquet for consumers: the latest edition that passed its audit, whole at every moment, for every reader."""

import multiprocessing
import time
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.quality import consumer_files
from jobs.quality.audit_results import ABOUT_ROWS, FAILED, Audit, Outcome, store_audit
from jobs.quality.consumer_files import update_consumer_file
from lakehouse.lake import Lake, Partition
from lakehouse.storage.scratch import work_folder

DAY, NEXT = "2022-05-01", "2022-05-02"
FAULT = Outcome("rule", ABOUT_ROWS, "", "", "critical", FAILED)


def publish(lake: Lake, text: str, day: str = DAY) -> Partition:
    """An edition of three files with ten users each."""
    partition = lake["channel_policies", "shop", day]
    with work_folder() as work:
        for k in range(3):
            rows = pa.table({"user_id": range(10 * k, 10 * k + 10), "channel": [text] * 10})
            pq.write_table(rows, work / f"part-{k}.parquet")
        partition.publish(work, inputs={}, code="c")
    return partition


def audit(partition: Partition, *outcomes: Outcome) -> None:
    assert partition.manifest is not None
    store_audit(partition.lake, Audit(partition.table, "shop", partition.day, 30, partition.manifest.fingerprint, (),
                                      outcomes))  # fmt: skip


def pass_audit(lake: Lake, text: str, day: str = DAY) -> Partition:
    partition = publish(lake, text, day)
    audit(partition)
    assert update_consumer_file(partition)
    return partition


def channels(partition: Partition) -> set[str]:
    return set(pq.ParquetFile(partition.consumer_file).read()["channel"].to_pylist())


def test_an_edition_is_written_once_it_has_passed(tmp_path):
    lake = Lake(tmp_path)
    partition = publish(lake, "a")
    assert not update_consumer_file(partition)  # not audited yet
    assert not partition.consumer_file.exists()
    audit(partition)
    assert update_consumer_file(partition)
    expected = tmp_path / "shop" / "published" / "channel_policies" / f"ds={DAY}" / "part-0.parquet"
    assert partition.consumer_file == expected
    assert pq.read_table(expected, partitioning=None).equals(partition.read())
    modified_ns = expected.stat().st_mtime_ns
    assert not update_consumer_file(partition)  # it is there already
    assert expected.stat().st_mtime_ns == modified_ns


def test_an_edition_that_fails_its_audit_leaves_the_earlier_one(tmp_path):
    lake = Lake(tmp_path)
    pass_audit(lake, "a")
    partition = publish(lake, "b")
    assert not update_consumer_file(partition)  # the audit is about the earlier edition
    audit(partition, FAULT)
    assert not update_consumer_file(partition)
    assert channels(partition) == {"a"}
    pass_audit(lake, "c")
    assert channels(partition) == {"c"}


def test_a_damaged_file_is_written_again(tmp_path, capsys):
    partition = pass_audit(Lake(tmp_path), "a")
    partition.consumer_file.write_bytes(partition.consumer_file.read_bytes()[:-9])
    assert update_consumer_file(partition)
    assert channels(partition) == {"a"}
    assert "is damaged: it is written again" in capsys.readouterr().out


def test_of_two_audits_at_once_the_later_edition_stays(tmp_path, monkeypatch):
    """A second edition passes and is written between the first audit's listing of files and its writing of them."""
    lake = Lake(tmp_path)
    first = publish(lake, "a")
    audit(first)
    write = consumer_files._write

    def overtaken(partition: Partition, files, staged: Path) -> None:
        monkeypatch.setattr(consumer_files, "_write", write)
        write(partition, files, staged)
        pass_audit(lake, "b")

    monkeypatch.setattr(consumer_files, "_write", overtaken)
    assert update_consumer_file(first)
    assert channels(first) == {"b"}


def test_a_kill_while_the_file_is_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    lake = Lake(tmp_path)
    pass_audit(lake, "a")
    partition = publish(lake, "b")
    audit(partition)
    with monkeypatch.context() as patch:
        patch.setattr(consumer_files, "move_whole", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            update_consumer_file(partition)
    assert channels(partition) == {"a"}
    assert update_consumer_file(partition)
    assert channels(partition) == {"b"}


def pandas_rows(path: str) -> pd.DataFrame:
    return pd.read_parquet(path)


def duckdb_rows(path: str) -> pd.DataFrame:
    pattern = path if path.endswith(".parquet") else f"{path}/**/*.parquet"
    return duckdb.connect().sql(f"FROM read_parquet('{pattern}')").df()


def polars_rows(path: str) -> pd.DataFrame:
    frame = pytest.importorskip("polars").read_parquet(path, hive_partitioning=True)
    return pd.DataFrame({name: frame[name].to_list() for name in frame.columns})


@pytest.mark.parametrize("read", [pandas_rows, duckdb_rows, polars_rows])
def test_every_reader_reads_a_day_a_table_and_a_pattern(tmp_path, read):
    lake = Lake(tmp_path)
    pass_audit(lake, "a")
    pass_audit(lake, "b", NEXT)
    table = lake.consumer_files("shop") / "channel_policies"
    assert set(read(str(table / f"ds={DAY}")).channel) == {"a"}
    assert set(read(str(table / f"ds={DAY}" / "part-0.parquet")).channel) == {"a"}
    rows = read(str(table))
    assert len(rows) == 60
    assert {(row.channel, str(row.ds)[:10]) for row in rows.itertuples()} == {("a", DAY), ("b", NEXT)}


@pytest.mark.spark
def test_spark_reads_a_day_a_table_and_a_pattern(spark_sql, tmp_path):
    lake = Lake(tmp_path)
    pass_audit(lake, "a")
    pass_audit(lake, "b", NEXT)
    table = lake.consumer_files("shop") / "channel_policies"
    assert spark_sql.read.parquet(str(table / f"ds={DAY}")).count() == 30
    assert spark_sql.read.parquet(f"{table}/ds=*/*.parquet").count() == 60
    assert {str(row.ds) for row in spark_sql.read.parquet(str(table)).select("ds").distinct().collect()} == {DAY, NEXT}


def _audit_in_turn(root: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for text in "ab":
            pass_audit(Lake(Path(root)), text)


@pytest.mark.slow
def test_a_reader_that_lists_before_and_reads_after_sees_one_edition(tmp_path):
    lake = Lake(tmp_path)
    partition = pass_audit(lake, "b")
    writer = multiprocessing.get_context("spawn").Process(target=_audit_in_turn, args=(str(tmp_path), 1.5))
    writer.start()
    readers = {"folder": lambda: pd.read_parquet(partition.consumer_file.parent),
               "pattern": lambda: duckdb_rows(str(partition.consumer_file.parent))}  # fmt: skip
    editions, reads = set(), 0
    while writer.is_alive():
        for read in readers.values():
            rows = read()
            assert len(rows) == 30
            editions.add(tuple(rows.channel.unique()))
            reads += 1
    assert writer.exitcode == 0
    assert editions == {("a",), ("b",)}
    assert reads > 20

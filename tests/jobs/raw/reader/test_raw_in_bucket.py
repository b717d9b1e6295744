"""A raw log in an object store is read like the same log on a disk, on a real S3 server."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_reading import rows_of
from test_source_files import BODY, COMPRESSED, ODD_NAMES

from jobs.draft.sample import tables_in
from jobs.raw.files import matching_files
from jobs.raw.index import file_stamp
from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.read import plan_splits, read_file, read_split
from lakehouse.storage.store_path import path_of
from schemas.dataset import PARQUET, RawColumn, RawFile
from schemas.errors import NothingToDoYet

pytestmark = pytest.mark.bucket
LAYOUT = RawFile("log", ("*.csv",), (RawColumn("n"),))


@pytest.fixture
def raw(bucket: str) -> Path:
    """An empty folder in the bucket."""
    return path_of(bucket)


@pytest.mark.parametrize("data", COMPRESSED.values(), ids=COMPRESSED)
def test_every_compression_is_read(raw, data):
    (raw / "log.csv").write_bytes(data)
    assert sorted(row[0] for row in rows_of(raw / "log.csv", LAYOUT)) == list(range(1000))


def test_parquet_is_read(raw, tmp_path):
    pq.write_table(pa.table({"n": range(1000)}), tmp_path / "log.parquet", row_group_size=100)
    (raw / "log.parquet").upload(tmp_path / "log.parquet")
    layout = RawFile("log", ("*.parquet",), (RawColumn("n"),), format=PARQUET)
    assert sorted(row[0] for row in rows_of(raw / "log.parquet", layout)) == list(range(1000))
    assert [table.rows for table in tables_in(raw)] == [1000]


def test_a_file_is_read_in_splits(raw):
    (raw / "log.csv").write_bytes(b"n\n" + BODY)
    source = open_raw_file(raw / "log.csv", LAYOUT)
    splits = plan_splits(source, 700)
    assert len(splits) > 4
    values = [v for split in splits for table in read_split(split, LAYOUT) for v in table.column("n").to_pylist()]
    assert values == list(range(1000))


def test_files_are_found_as_on_a_disk(raw, tmp_path):
    # SeaweedFS takes a backslash for a slash.
    names = [name for name in ODD_NAMES if "\n" not in name and "\\" not in name]
    for name in (*names, "other.txt"):
        (tmp_path / name).write_bytes(b"n\n7\n")
        (raw / name).write_bytes(b"n\n7\n")
    listed = matching_files(raw, LAYOUT)
    assert [file.name for file in listed] == [file.name for file in matching_files(tmp_path, LAYOUT)]
    for file in listed:
        source = open_raw_file(path_of(str(file)), LAYOUT)
        assert (source.name, [len(table) for table in read_file(source, LAYOUT)]) == (file.name, [1])


def test_a_stamp_changes_with_the_content(raw):
    file = raw / "log.csv"
    file.write_bytes(b"n\n7\n")
    stamp = file_stamp(file)
    assert file_stamp(file) == stamp
    file.write_bytes(b"n\n8\n")  # of the same size, within the same second
    assert file_stamp(file) != stamp


def test_a_file_that_changes_while_it_is_read_is_not_accepted(raw):
    file = raw / "log.csv"
    file.write_bytes(b"n\n7\n")
    source = open_raw_file(file, LAYOUT)
    file.write_bytes(b"n\n7\n8\n")
    with pytest.raises(NothingToDoYet, match="still being written"):
        list(read_file(source, LAYOUT))
    file.unlink()
    with pytest.raises(NothingToDoYet, match="has been removed"):
        list(read_file(source, LAYOUT))


def test_drafts_read_samples(raw):
    (raw / "log.csv.gz").write_bytes(gzip.compress(b"user,n\n" + b"a,1\nb,2\n" * 10))
    (table,) = tables_in(raw)
    assert (table.rows, table.file_names) == (20, ("log.csv.gz",))

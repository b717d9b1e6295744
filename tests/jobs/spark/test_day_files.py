"""A worker's files depend on the rows alone, not on the pieces in which they come."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.spark.day_files import DayFiles
from lakehouse.storage.files import file_sha256

DAYS = ["2022-04-22", "2022-04-23"]
GROUP = 8
ROWS = 50
TABLE = pa.table({
    "user_id": pa.array(range(ROWS)),
    "values": pa.array([[k] * (k % 5) for k in range(ROWS)]),
    "text": pa.array([f"t{k % 9}" for k in range(ROWS)]),
    "steps": pa.array([[{"name": f"n{k % 4}", "count": k}] * (k % 3) for k in range(ROWS)]),
    "lists": pa.array([None if k % 7 == 0 else [[k, None], []] for k in range(ROWS)], pa.list_(pa.list_(pa.int32()))),
    "ds": pa.array([DAYS[k % 3 == 0] for k in range(ROWS)]),
})  # fmt: skip


def written(folder, cuts, table=TABLE, group=GROUP) -> dict:
    """The files of the table, by day, given in the pieces between these cuts."""
    folder.mkdir(exist_ok=True)
    ends = [0, *sorted(cuts), len(table)]
    with DayFiles(folder, group) as files:
        for start, end in pairwise(ends):
            rows = table.slice(start, end - start)
            files.add(rows.drop_columns("ds"), rows.column("ds"))
        return dict(files.finish())


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: file_sha256(file) for file in folder.iterdir()}


@pytest.mark.slow
@settings(deadline=None)
@given(st.sets(st.integers(0, ROWS), max_size=12))
def test_the_pieces_do_not_show_in_the_files(tmp_path_factory, cuts):
    whole_folder, pieces_folder = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("pieces")
    expected, files = written(whole_folder, []), written(pieces_folder, cuts)
    assert set(files) == set(expected) == set(DAYS)
    assert hashes(pieces_folder) == hashes(whole_folder)
    for day, file in files.items():
        rows = pq.ParquetFile(file)
        day_rows = TABLE.filter(pa.compute.equal(TABLE.column("ds"), day)).drop_columns("ds")
        assert rows.read().equals(day_rows)
        groups = [rows.metadata.row_group(k).num_rows for k in range(rows.num_row_groups)]
        assert groups[:-1] == [GROUP] * (len(groups) - 1)


@pytest.mark.parametrize("width", [130, 200, 350])
def test_nor_in_the_pages_of_a_large_row_group(tmp_path, width):
    """A writer that is given a column in chunks looks at the end of each whether a page is full."""
    rows = 1024
    values = pa.array(np.random.default_rng(0).integers(0, 1 << 40, rows * width))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * width), values)
    table = pa.table({"values": lists, "ds": pa.array([DAYS[0]] * rows)})
    written(tmp_path / "whole", [], table, rows)
    written(tmp_path / "pieces", range(7, rows, 77), table, rows)
    assert hashes(tmp_path / "pieces") == hashes(tmp_path / "whole")


def test_text_has_a_dictionary_numbers_have_none_and_only_numbers_and_the_user_say_how_large_they_are(tmp_path):
    """Readers skip row groups by a user's id or a time; a dictionary of numbers costs more than it saves."""
    (file, *_) = written(tmp_path / "some", []).values()
    group = pq.ParquetFile(file).metadata.row_group(0)
    chunks = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
    assert {path for path, chunk in chunks.items() if chunk.has_dictionary_page} == {"text", "steps.list.element.name"}
    assert {path for path, chunk in chunks.items() if chunk.is_stats_set} == {"user_id"}


def test_buffered_rows_keep_no_more_in_memory_than_themselves(tmp_path, monkeypatch):
    """Otherwise the few rows of a day would keep the whole tables in memory that they came in."""
    monkeypatch.setattr("jobs.spark.day_files._MAX_SHARED_BYTES", 1_000_000)
    rows = 100_000
    table = pa.table({"value": pa.array(np.arange(rows))})
    days = pa.chunked_array([pa.array([DAYS[0]] * (rows - 1) + [DAYS[1]])])
    allocated = pa.total_allocated_bytes()
    with DayFiles(tmp_path, rows // 2) as files:
        for _ in range(10):
            files.add(table.take(pa.array(np.arange(rows))), days)
        assert pa.total_allocated_bytes() - allocated < 3_000_000  # ten times 800,000 bytes came in


def test_days_without_rows_have_no_file(tmp_path):
    assert written(tmp_path / "some", []).keys() == set(DAYS)
    (tmp_path / "none").mkdir()
    with DayFiles(tmp_path / "none", GROUP) as files:
        assert files.finish() == []
    assert list((tmp_path / "none").iterdir()) == []

"""Files of a folder: which belong together, which are the log, which are its side tables."""

import bz2
import gzip
import json
import lzma
from fnmatch import fnmatchcase

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.draft.sample import sampled_folder, tables_in
from jobs.draft.tables import file_pattern, log_table, side_tables
from schemas.dataset import JSON_LINES, PARQUET
from schemas.errors import UserError

LOG = "user,ts,ad,click\n" + "".join(f"u{k % 9},{1_700_000_000 + k},{k % 5},{k % 2}\n" for k in range(40))
ADS = "ad,brand\n" + "".join(f"{k},b{k}\n" for k in range(4))
USERS = "userid,age\n" + "".join(f"u{k},{20 + k}\n" for k in range(9))


def test_a_log_with_side_tables(tmp_path):
    (tmp_path / "log_2024.csv").write_text(LOG)
    (tmp_path / "log_2025.csv.gz").write_bytes(gzip.compress(LOG.encode()))
    (tmp_path / "ads.csv").write_text(ADS)
    (tmp_path / "users.csv").write_text(USERS)
    (tmp_path / ".hidden").write_text("not a table")
    tables = tables_in(tmp_path)
    log = log_table(tables)
    assert log.file_names == ("log_2024.csv", "log_2025.csv.gz")
    assert file_pattern(log, tables) == ("log_*.csv",)
    sides = {side.table.file_names: (side.key, side.log_key, side.unmatched_share) for side in side_tables(log, tables)}
    assert sides == {("ads.csv",): ("ad", "ad", 0.2), ("users.csv",): ("userid", "user", 0.0)}


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, pa.Codec("zstd").compress])
def test_compression_is_recognised_by_the_content(tmp_path, compress):
    (tmp_path / "log.csv").write_bytes(bytes(compress(LOG.encode())))
    (table,) = tables_in(tmp_path)
    assert table.rows == 40
    assert [column.name for column in table.columns] == ["user", "ts", "ad", "click"]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("events.csv", "events*.csv"),
        ("imp.20130612.txt", "imp.*.txt"),
        ("2019-Oct.csv", "*.csv"),
        ("raw [1].csv", "raw [[]*.csv"),
        ("part-00001", "part-*"),
        ("log.tsv.gz", "log*.tsv"),
    ],
)
def test_a_pattern_matches_later_files_of_the_same_kind(tmp_path, name, pattern):
    (tmp_path / name).write_text(LOG)
    tables = tables_in(tmp_path)
    assert file_pattern(tables[0], tables) == (pattern,)
    assert fnmatchcase(name.removesuffix(".gz"), pattern)


def test_patterns_that_would_match_foreign_files_become_names(tmp_path):
    (tmp_path / "2024.csv").write_text(LOG)
    (tmp_path / "ads.csv").write_text(ADS)
    tables = tables_in(tmp_path)
    assert file_pattern(log_table(tables), tables) == ("2024.csv",)


def test_json_lines_and_parquet_are_read(tmp_path):
    records = [{"uid": f"u{k}", "ts": 1_700_000_000 + k, "click": k % 2 == 0, "note": None} for k in range(20)]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    pq.write_table(pa.Table.from_pylist([{**r, "tags": ["a"]} for r in records]), tmp_path / "log.parquet")
    by_format = {table.file_format: table for table in tables_in(tmp_path)}
    assert set(by_format) == {JSON_LINES, PARQUET}
    for table in by_format.values():
        assert [(c.name, c.dtype) for c in table.columns] == [
            ("uid", "string"), ("ts", "bigint"), ("click", "string"), ("note", "string"),
        ]  # fmt: skip
        assert table.column("click").is_flag
        assert table.is_whole
    assert by_format[PARQUET].nested == ("tags",)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "no files in"),
        (b"ad,brand\n1,x\n2,y\n", "no column of log.csv can be read as the time"),
        (b"\x1f\x8b\x08\x00broken", "log.csv is cut off or damaged"),
        (b"PAR1 broken", "log.csv is an empty or damaged Parquet file"),
        (b'{"a": 1}\nnot json\n', "log.csv begins like JSON, but line 2 is not a JSON object"),
        (b"only one column\nof words\n", "log.csv: no separator"),
        (b'[\n  {"user": 1}, {"user": 2}]', "log.csv is one JSON array: write an object in each line"),
        (b"PK\x03\x04" + bytes(90), "log.csv is neither text nor Parquet: unpack it"),
    ],
)
def test_files_that_are_no_log_are_one_clear_line(tmp_path, content, line):
    if content is not None:
        (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(UserError, match=line):
        log_table(tables_in(tmp_path))


def test_a_few_lines_that_are_no_objects_are_left_out(tmp_path):
    lines = [json.dumps({"user": k % 5, "ts": 1_711_833_300 + k}) for k in range(40)]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines[:20], "[" * 100_000, "not json", *lines[20:]]) + "\n")
    (table,) = tables_in(tmp_path)
    assert (table.rows, table.damaged) == (40, 2)


def test_values_of_parquet_that_python_cannot_have_are_missing(tmp_path):
    columns = {
        "user": [1, 2],
        "far": pa.array([10**7, 0], pa.date32()),
        "text": pa.array([b"\xff", b"a"]).view(pa.string()),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    (table,) = tables_in(tmp_path)
    assert table.column("far").texts == ("", '"1970-01-01"')
    assert table.column("text").texts == ("", "a")


def test_a_description_beside_the_log_is_named_and_left_out(tmp_path):
    (tmp_path / "log.csv").write_text("user,ts\n1,1711833300\n2,1711833301\n")
    (tmp_path / "README.txt").write_text("see the web site\n")
    tables, notes = sampled_folder(tmp_path)
    assert [table.file_names for table in tables] == [("log.csv",)]
    (note,) = notes
    assert note.startswith("README.txt: no separator divides its lines")


def test_a_missing_folder_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        tables_in(tmp_path / "none")


def test_the_sample_has_rows_of_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.draft.sample.MOST_ROWS", 9)
    for name, rows in (("log_1.csv", 2), ("log_2.csv", 50), ("log_3.csv", 50)):
        (tmp_path / name).write_text("user,ts\n" + f"{name[4]},1711833300\n" * rows)
    (table,) = tables_in(tmp_path)
    assert "".join(table.column("user").texts) == "112223333"
    assert not table.is_whole


def test_without_a_header_a_side_table_is_found_by_its_values(tmp_path):
    films = [str(k) for k in range(1, 31)]
    lines = [f"{k % 50 + 1}::{films[k % 30]}::{k % 5}::{978300000 + k}" for k in range(200)]
    (tmp_path / "ratings.dat").write_text("\n".join(lines) + "\n")
    (tmp_path / "films.dat").write_text("".join(f"{k}::Film {k}\n" for k in films))
    (tmp_path / "people.dat").write_text("".join(f"{k}::{k % 2}\n" for k in range(1, 51)))
    tables = tables_in(tmp_path)
    log = log_table(tables)
    assert log.file_names == ("ratings.dat",)
    keys = {side.table.file_names[0]: (side.key, side.log_key) for side in side_tables(log, tables)}
    assert keys == {"films.dat": ("column_1", "column_2"), "people.dat": ("column_1", "column_1")}


def test_of_several_files_without_a_table_the_largest_is_named(tmp_path):
    (tmp_path / "README").write_text("read me\n")
    (tmp_path / "words.txt").write_text("only words\nand no table\n")
    with pytest.raises(UserError, match=r"words\.txt: no separator"):
        tables_in(tmp_path)


def test_a_file_whose_name_is_no_text_is_named_and_left_out(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "log-\udcff.csv").write_text(LOG)
    tables, notes = sampled_folder(tmp_path)
    assert [table.file_names for table in tables] == [("log.csv",)]
    assert notes == ["log-\\udcff.csv: its name is not UTF-8; rename it"]

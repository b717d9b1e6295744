"""Rows of Parquet files, and the same rows exported as JSON lines and read again."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_reading import rows_of

from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.source_files import UnreadableFile
from schemas.dataset import PARQUET, RawColumn, RawFile
from schemas.errors import NothingToDoYet

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
NAIVE = datetime(2024, 5, 1, 12, 0, 0, 5000)


def layout(dtype: str, *, nullable: bool = True) -> RawFile:
    return RawFile("log", ("*.parquet",), (RawColumn("v", dtype, nullable=nullable),), format=PARQUET)


def read(tmp_path, values: pa.Array, dtype: str, **options: bool) -> list:
    """The value or the reason of each row; the file, and its rows as JSON lines, read alike."""
    path, lines = tmp_path / "log.parquet", tmp_path / "log.parquet.jsonl"
    pq.write_table(pa.table({"v": values}), path)
    rows = rows_of(path, layout(dtype, **options))
    lines.write_bytes(b"".join(raw + b"\n" for *_, raw in rows))
    as_lines = rows_of(lines, layout(dtype, **options))
    if not any(reason for _, reason, _ in rows):
        assert as_lines == rows
    return [value if reason is None else reason for value, reason, _ in rows]


@pytest.mark.parametrize(("values", "dtype", "expected"), [
    (pa.array([1, None], pa.int32()), "bigint", [1, None]),
    (pa.array([1], pa.uint8()), "double", [1.0]),
    (pa.array([1.0, 2.5]), "bigint", [1, "v is not a whole number: 2.5"]),
    (pa.array([float("nan"), 1.5]), "double", [1.5, "v is not a number: nan"]),
    (pa.array([2**64 - 1], pa.uint64()), "bigint", [f"v is not a whole number: {2**64 - 1}"]),
    (pa.array([True]), "bigint", [1]),
    (pa.array([Decimal("1.50")]), "double", [1.5]),
    (pa.array(["5", "x"]), "bigint", [5, "v is not a whole number: x"]),
    (pa.array([" a", "", None]).dictionary_encode(), "string", [" a", None, None]),
    (pa.array([5]), "string", ["5"]),
    (pa.array([date(2024, 5, 1)]), "string", ["2024-05-01"]),
    (pa.array([NOON], pa.timestamp("ms", "Asia/Tokyo")), "bigint", [1714564800000]),
    (pa.array([NOON], pa.timestamp("ms", "Asia/Tokyo")), "string", ["2024-05-01T12:00:00.000Z"]),
    (pa.array([NAIVE], pa.timestamp("us")), "string", ["2024-05-01T12:00:00.005000"]),
    (pa.array([NAIVE], pa.timestamp("us")), "bigint",
     ["column v of the file has times without a zone: declare it as a string"]),
    (pa.array([[1]]), "string", ["column v of the file has lists or parts"]),
    (pa.array([None, None]), "string", [None, None]),
    (pa.array([b"a", b"\xff", None]), "string", ["a", "v is not text: \\xff", None]),
    (pa.array([b"5", b"\xff"], pa.large_binary()), "bigint", [5, "v is not a whole number: \\xff"]),
    (pa.array([b"a", b"\xed\xa0\x80"]).view(pa.string()), "string", ["a", "v is not text: \\xed\\xa0\\x80"]),
    (pa.array(["a\0b"]), "string", ["v is not text: a\\x00b"]),
    (pa.array([b"\x01" * 16], pa.binary(16)), "string", ["01" * 16]),
    (pa.array([UUID(int=1)], pa.uuid()), "string", [str(UUID(int=1))]),
    (pa.array([2**62], pa.timestamp("us")), "string", ["v is not text: <value out of range: 4611686018427387..."]),
    (pa.array([-(2**40)], pa.timestamp("ms", "UTC")), "string", ["1935-02-28T04:06:12.224Z"]),
    (pa.array([10**7], pa.date32()), "string", ["29349-01-26"]),
    (pa.array([10**7], pa.date32()), "bigint", ["v is not a whole number: 29349-01-26"]),
    (pa.array(["x" * (1 << 20)]), "string", ["the row has 1,048,585 bytes, more than 1,048,576"]),
])  # fmt: skip
def test_values(tmp_path, values, dtype, expected):
    assert sorted(read(tmp_path, values, dtype), key=str) == sorted(expected, key=str)


def test_a_missing_value_is_a_reason(tmp_path):
    assert read(tmp_path, pa.array([None], pa.int64()), "bigint", nullable=False) == ["v is missing"]


def test_columns_are_found_by_name(tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"w": ["x"], "v": [7]}), path)
    assert open_raw_file(path, layout("bigint")).extra == ("w",)
    assert rows_of(path, layout("bigint")) == [(7, None, b'{"w": "x", "v": 7}')]


def test_row_groups_are_read_apart(tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"v": list(range(100))}), path, row_group_size=7)
    assert rows_of(path, layout("bigint"), split_size=1) == rows_of(path, layout("bigint"))
    assert len(rows_of(path, layout("bigint"))) == 100


def test_a_file_of_other_columns_is_not_read(tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"w": [7]}), path)
    with pytest.raises(UnreadableFile, match="it lacks all of the columns v"):
        open_raw_file(path, layout("bigint"))


def test_a_cut_file_may_still_be_written(tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"v": list(range(100))}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(NothingToDoYet, match=r"log\.parquet is cut off or damaged"):
        rows_of(path, layout("bigint"))


def test_values_of_columns_that_are_not_read_do_not_matter(tmp_path):
    path = tmp_path / "log.parquet"
    columns = {
        "far": pa.array([10**7], pa.date32()),
        "part": pa.array([{"far": 10**7}], pa.struct([("far", pa.date32())])),
        "bytes": pa.array([b"\xff"]),
        "texts": pa.array([[b"\xff"]]).cast(pa.list_(pa.binary())).view(pa.list_(pa.string())),
    }
    pq.write_table(pa.table({"v": [7], **columns}), path)
    ((value, reason, raw),) = rows_of(path, layout("bigint"))
    assert (value, reason) == (7, None)
    assert json.loads(raw)["far"] == "29349-01-26"

"""What Arrow reads of a log's lines, and what it leaves to Spark's own CSV reader."""

import pyarrow as pa
import pytest
from raw_logs import criteo_row, write_criteo

from jobs.raw.files import find_raw_files, read_raw
from jobs.raw.lines import parsed, typed
from schemas.dataset import RawColumn, RawFile, get_dataset

LAYOUT = RawFile("log", ("*.csv",), (RawColumn("n"), RawColumn("x", "double", nullable=True), RawColumn("s", "string")))
# Whatever Arrow and Spark may read differently.
ODD = [
    "0x1F,1.5,a", "1,nan,a", "1,inf,a", "1,1e400,a", "1, 2.5,a", "1,2.5,é",
    '1,2.5,"a', '1,2.5,"a"b', '1,2.5,a"b"', '1,2.5,"a""b"', '"1,2.5",a', '1,2.5,"a b"',
    "1,2.5", "1,2.5,a,b",
    "x,1.5,a", "+1,2.5,a", "1,2.5d,a", ",2.5,a", "1,2.5,", "9" * 25 + ",2.5,a", "1.0,2.5,a", "1,2.5,a b", "1,2.5,a\x00",
]  # fmt: skip


def read(lines: list[str], layout: RawFile = LAYOUT) -> tuple[dict[str, tuple], list[str]]:
    """The values of the lines that Arrow has read, and the lines left to Spark."""
    plain, left = {}, []
    for part, values in parsed(pa.array(lines), pa.array(["log.csv"] * len(lines)), layout):
        texts = part.column("line").to_pylist()
        if values is None:
            left += texts
        else:
            plain |= dict(zip(texts, zip(*values.to_pydict().values(), strict=True), strict=True))
    return plain, left


def test_plain_lines_have_their_values():
    plain, left = read(["1,2.5,a", "-7,,b-c", "007,1E-3,0"])
    assert plain == {"1,2.5,a": (1, 2.5, "a"), "-7,,b-c": (-7, None, "b-c"), "007,1E-3,0": (7, 0.001, "0")}
    assert left == []


def test_quotes_around_whole_fields_are_plain():
    quoted = {'1,2.5,"[100,1k)"': (1, 2.5, "[100,1k)"), '"7","",",,"': (7, None, ",,"), '2,0.5,"x"': (2, 0.5, "x")}
    plain, left = read(["1,2.5,a", *quoted])
    assert plain == {"1,2.5,a": (1, 2.5, "a"), **quoted}
    assert left == []


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_line_is_left_to_spark_and_takes_few_with_it(odd):
    good = [f"{k},2.5,a" for k in range(1000)]
    plain, left = read([*good[:400], odd, *good[400:]])
    assert odd in left
    assert len(left) <= 16
    assert plain.keys() | set(left) == {*good, odd}
    assert len(plain) + len(left) == 1001


@pytest.mark.parametrize("blank", ["", "   ", "\t\x01 "])
def test_a_blank_line_is_no_row(blank):
    plain, left = read(["1,2.5,a", blank])
    assert (len(plain), left) == (1, [])


def test_a_file_of_odd_lines_loses_none():
    lines = [f"{k},x,a" for k in range(333)]
    plain, left = read(lines)
    assert plain == {}
    assert sorted(left) == sorted(lines)


def test_all_ways_of_reading_give_the_same_row(spark, tmp_path):
    """A blank makes Spark read the line, quotes make Arrow read it otherwise; what the line says is the same."""
    layout = get_dataset("criteo").log
    lines = [criteo_row(uid=k, cost="0.1234567890123", cpo="1e-05", cat7=k * 10**9) for k in range(40)]
    written = {
        "plain": lines,
        "quoted": [line.replace(f"\t{k}\t", f'\t"{k}"\t', 1) for k, line in enumerate(lines)],
        "blank": [line.replace(f"\t{k}\t", f"\t{k} \t", 1) for k, line in enumerate(lines)],
    }
    rows = {}
    for name, of_file in written.items():
        files = find_raw_files(get_dataset("criteo"), write_criteo(tmp_path / name, of_file))["log"]
        found = typed(read_raw(spark, files), layout).drop("_raw").orderBy("uid").collect()
        assert len(found) == 40
        assert {row._reason for row in found} == {None}
        rows[name] = found
    assert rows["plain"] == rows["quoted"] == rows["blank"]


def test_a_header_is_left_out_of_each_file_and_not_of_its_middle(spark, tmp_path):
    layout = get_dataset("criteo").log
    header = layout.separator.join(column.name for column in layout.columns)
    for name in ("criteo_attribution_dataset.tsv", "criteo_attribution_dataset_2.tsv"):
        (tmp_path / name).write_text("\n".join([header, criteo_row(), header, criteo_row()]) + "\n")
    files = find_raw_files(get_dataset("criteo"), tmp_path)["log"]
    found = typed(read_raw(spark, files), layout).collect()
    assert (
        sorted((row._raw == header, row._reason) for row in found)
        == [(False, None)] * 4 + [(True, "timestamp is not a whole number: timestamp")] * 2
    )

"""Which lines of a log Arrow reads, and which it leaves to Spark's own CSV reader."""

import pyarrow as pa
import pytest

from jobs.raw.plain_lines import parse_lines
from schemas.dataset import RawColumn, RawFile

LAYOUT = RawFile("log", ("*.csv",), (RawColumn("n"), RawColumn("x", "double", nullable=True), RawColumn("s", "string")))
# Lines that Arrow and Spark may read differently.
ODD = [
    "0x1F,1.5,a", "1,nan,a", "1,inf,a", "1,1e400,a", "1, 2.5,a", "1,2.5,é",
    '1,2.5,"a', '1,2.5,"a"b', '1,2.5,a"b"', '1,2.5,"a""b"', '"1,2.5",a', '1,2.5,"a b"',
    "1,2.5", "1,2.5,a,b",
    "x,1.5,a", "+1,2.5,a", "1,2.5d,a", ",2.5,a", "1,2.5,", "9" * 25 + ",2.5,a", "1.0,2.5,a", "1,2.5,a b", "1,2.5,a\x00",
]  # fmt: skip


def read(lines: list[str], layout: RawFile = LAYOUT) -> tuple[dict[str, tuple], list[str]]:
    """The values of the lines that Arrow has read, and the lines that it has left to Spark."""
    plain, for_spark = {}, []
    for group, values in parse_lines(pa.array(lines), pa.array(["log.csv"] * len(lines)), layout):
        texts = group.column("line").to_pylist()
        if values is None:
            for_spark += texts
        else:
            plain |= dict(zip(texts, zip(*values.to_pydict().values(), strict=True), strict=True))
    return plain, for_spark


def test_plain_lines_have_their_values():
    plain, for_spark = read(["1,2.5,a", "-7,,b-c", "007,1E-3,0"])
    assert plain == {"1,2.5,a": (1, 2.5, "a"), "-7,,b-c": (-7, None, "b-c"), "007,1E-3,0": (7, 0.001, "0")}
    assert for_spark == []


def test_quotes_around_whole_fields_are_plain():
    quoted = {'1,2.5,"[100,1k)"': (1, 2.5, "[100,1k)"), '"7","",",,"': (7, None, ",,"), '2,0.5,"x"': (2, 0.5, "x")}
    plain, for_spark = read(["1,2.5,a", *quoted])
    assert plain == {"1,2.5,a": (1, 2.5, "a"), **quoted}
    assert for_spark == []


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_line_is_left_to_spark_with_few_others(odd):
    good = [f"{k},2.5,a" for k in range(1000)]
    plain, for_spark = read([*good[:400], odd, *good[400:]])
    assert odd in for_spark
    assert len(for_spark) <= 16
    assert plain.keys() | set(for_spark) == {*good, odd}
    assert len(plain) + len(for_spark) == 1001


@pytest.mark.parametrize("blank", ["", "   ", "\t\x01 "])
def test_a_blank_line_is_no_row(blank):
    plain, for_spark = read(["1,2.5,a", blank])
    assert (len(plain), for_spark) == (1, [])


def test_no_line_is_lost_if_all_are_odd():
    lines = [f"{k},x,a" for k in range(333)]
    plain, for_spark = read(lines)
    assert plain == {}
    assert sorted(for_spark) == sorted(lines)

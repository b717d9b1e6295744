"""Records of delimited text: a small text is cut in the same way at any block size and split size."""

import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from raw_reading import expected_records, with_largest_record

from jobs.raw.reader.records import Dialect, cut_blocks, lines_are_records

PIECES = [b'"', b'"', b'""', b",", b",", b"\n", b"\n", b"\r", b"\r\n", b"a", b"1", b" ", b'",', b',"', b'"\n', b'\n"']
texts = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)


def cut(data: bytes, dialect: Dialect, block_size: int, length: int | None = None) -> list[bytes]:
    blocks = cut_blocks(io.BytesIO(data), dialect, length, block_size)
    return [record for block in blocks for record in block.records()]


@pytest.fixture(scope="module", params=[12, 1 << 20])
def largest(request):
    with pytest.MonkeyPatch.context() as patch:
        with_largest_record(patch, request.param)
        yield request.param


@given(data=texts, block_size=st.integers(1, 50), lone_cr=st.booleans())
@example(data=b'"a\r', block_size=3, lone_cr=True)
@example(data=b'1,"a\nb"\r\n2,"c', block_size=1, lone_cr=False)
@example(data=b'"\n"\r', block_size=1, lone_cr=False)
@example(data=b"a" * 30 + b"\r" + b"\nb", block_size=31, lone_cr=True)
def test_the_records_are_those_of_the_regular_expression(largest, data, block_size, lone_cr):
    expected = expected_records(data, b",", lone_cr=lone_cr, largest=largest)
    assert cut(data, Dialect(b",", b'"', lone_cr), block_size) == expected


@given(data=texts, block_size=st.integers(1, 20), length=st.integers(0, 40))
def test_a_part_has_the_records_that_begin_in_it(largest, data, block_size, length):
    dialect = Dialect(b",", b'"')
    starts, position = [], 0
    for block in cut_blocks(io.BytesIO(data), dialect, None, 1 << 20):
        starts += [position + start for start in block.starts[:-1]]
        position += block.starts[-1]
    expected = cut(data, dialect, 1 << 20)[: sum(start < length for start in starts)]
    assert cut(data, dialect, block_size, length) == expected


@given(data=texts)
def test_lines_that_are_records_are_cut_anywhere(largest, data):
    dialect = Dialect(b",", b'"')
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    if lines_are_records(data, dialect):
        assert cut(data, dialect, 7) == [line.removesuffix(b"\r") for line in lines]


@given(data=texts.map(lambda text: text.replace(b",", b"\t")), block_size=st.integers(1, 50))
@example(data=b'a\t"b\tc\nd\te"\tf\n', block_size=50)
@example(data=b'a\t"b\nc"\td\ne\tf\n', block_size=50)
def test_in_tab_separated_text_no_field_swallows_rows(largest, data, block_size):
    records = cut(data, Dialect(b"\t", b'"'), block_size)
    assert records == cut(data, Dialect(b"\t", b'"'), 1 << 20)
    assert not [record for record in records if re.search(rb'(^|\t)"[^"]*\t[^"]*\n[^"]*"', record)]


def test_without_quotes_a_quote_is_a_character():
    assert cut(b'5" wide,a\n"b\nc"', Dialect(b",", b""), 4) == [b'5" wide,a', b'"b', b'c"']


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_line_end_in_quotes_belongs_to_its_record(line_end):
    records = [b'1,"a' + line_end + b'b",2', b"3,c,4"]
    dialect = Dialect(b",", b'"', lone_cr=line_end == b"\r")
    assert cut(line_end.join([*records, b""]), dialect, 5) == records


def test_a_record_without_an_end_is_one_record_whose_beginning_alone_is_stored(monkeypatch):
    monkeypatch.setattr("jobs.raw.reader.records.LARGEST_RAW", 1 << 21)
    monkeypatch.setattr("jobs.raw.reader.records.SHORTENED_RAW", 100)
    long = b"x" * (3 << 20)
    blocks = list(cut_blocks(io.BytesIO(b"a,b\n" + long + b"\nc,d\n"), Dialect(b",", b'"'), None, 1 << 18))
    assert [record for block in blocks for record in block.records()] == [b"a,b", long[:100], b"c,d"]
    assert [block.size for block in blocks if block.size] == [len(long) + 1]


@given(data=texts, block_size=st.integers(1, 50), lone_cr=st.booleans(), separator=st.sampled_from([b"::", b"\t|\t"]))
@example(data=b'"a",', block_size=5, lone_cr=False, separator=b"::")
def test_a_separator_of_several_characters_cuts_as_one_character_does(data, block_size, lone_cr, separator):
    expected = cut(data, Dialect(b",", b'"', lone_cr), block_size)
    records = cut(data.replace(b",", separator), Dialect(separator, b'"', lone_cr), block_size)
    assert records == [record.replace(b",", separator) for record in expected]

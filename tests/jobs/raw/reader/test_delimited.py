"""Rows of delimited text: the same whether Arrow reads them together or they are read one by one."""

import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from raw_reading import expected_records, read_bytes, rows_of, with_largest_record

from jobs.raw.reader.delimited import read_record
from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.source_files import UnreadableFile
from schemas.dataset import RawColumn, RawFile

LAYOUT = RawFile("log", ("*.csv",), (RawColumn("n"), RawColumn("x", "double", nullable=True), RawColumn("s", "string")),
                 null_tokens=("NULL",))  # fmt: skip
HEADER = b"n,x,s\n"
FIELDS = [
    b"1", b"7", b"-3", b"+5", b" 5", b"1.0", b"1e3", b"1.5", b"0x1F", b"", b"NULL", b"nan", b"inf", b"1e400", b"9" * 20,
    b"9007199254740994.0", b"a", b" a", b"  ", b"\t", "\u00e9".encode(), b"\xe9", b"\x00", b'"a"', b'"a,b"', b'"a\nb"',
    b'"a\r\nb"', b'"\n"',
    b'"a""b"', b'"a"b', b'"a', b'a"b"', b'"1"', b'""', b"a\rb", b"\xef\xbb\xbf1", b"\x85", b"0xa", b"\x0b",
]  # fmt: skip
fields = st.one_of(st.sampled_from([b"1", b"2.5", b"a"]), st.sampled_from(FIELDS))
record_texts = st.lists(fields, min_size=1, max_size=4).map(b",".join)
good_texts = st.integers(0, 999).map(lambda k: b"%d,2.5,a" % k)
line_ends = st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n"])
bodies = st.lists(st.tuples(st.one_of(good_texts, record_texts), line_ends).map(b"".join), max_size=30).map(b"".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("raw")


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(body=bodies, block_size=st.sampled_from([1, 5, 23, 1000]), split_size=st.integers(1, 100))
@example(body=b'1,2,"a"\r', block_size=1, split_size=1)
@example(body=b"1,2,a\n" * 40 + b"1,2,b\xff\n" + b"1,2,a\n" * 40, block_size=1000, split_size=30)
@example(body=b"1.0,2,a\n0x1F,2,a\n", block_size=1000, split_size=1000)
@example(body=b"\xef\xbb\xbf1,2,a\n", block_size=1000, split_size=1000)
@example(body=b"1,1,\v\n", block_size=1, split_size=1)
@example(body=b'1,1,"\n"\n', block_size=1000, split_size=1000)
def test_every_row_is_what_it_is_alone_at_any_split_and_block_size(folder, body, block_size, split_size):
    with pytest.MonkeyPatch.context() as patch:
        with_largest_record(patch, 60)
        path = folder / "log.csv"
        path.write_bytes(HEADER + body)
        source = open_raw_file(path, LAYOUT)
        expected = []
        for record in expected_records(body, b",", lone_cr=False, largest=60):
            if record.strip(b" \t\r"):
                values, reason = read_record(record, source, LAYOUT)
                expected.append((*values, reason, record))
        expected.sort(key=lambda row: (row[-1], str(row)))
        assert rows_of(path, LAYOUT, split_size, block_size) == expected


@pytest.mark.slow(1)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(body=bodies, block_size=st.sampled_from([5, 1000]), separator=st.sampled_from(["::", "|~|", "\u00a6"]))
@example(body=b'1,2,"a,b"\n', block_size=1000, separator="::")
@example(body=b"1,2\x1fa\n" + b"1,2,a\n" * 40, block_size=1000, separator="::")
def test_a_separator_of_several_bytes_means_the_same_as_a_comma(folder, body, block_size, separator):
    as_bytes = separator.encode()
    rows = {}
    for name, text, layout in (
        ("comma.csv", HEADER + body, LAYOUT),
        ("long.csv", (HEADER + body).replace(b",", as_bytes), replace(LAYOUT, separator=separator)),
    ):
        (folder / name).write_bytes(text)
        rows[name] = rows_of(folder / name, layout, 1 << 20, block_size)
    as_long = [
        (n, x, s and s.replace(",", separator), reason and reason.replace(",", separator), raw.replace(b",", as_bytes))
        for n, x, s, reason, raw in rows["comma.csv"]
    ]
    assert sorted(rows["long.csv"], key=str) == sorted(as_long, key=str)


def test_a_separator_that_is_not_ascii_in_another_encoding(tmp_path):
    layout = replace(LAYOUT, separator="\u00a7", encoding="latin-1")
    rows = read_bytes("n\u00a7x\u00a7s\n1\u00a72\u00a7\u00e9\n".encode("latin-1"), tmp_path, layout)
    assert [row[:4] for row in rows] == [(1, 2.0, "\u00e9", None)]


# For each record the values, or the reason why it is refused.
CASES = {
    b"1,2.5,a": (1, 2.5, "a"),
    b"1.0,,a": (1, None, "a"),
    b"1e3,+5, a": (1000, 5.0, " a"),
    b" 5,NULL,a ": (5, None, "a "),
    b'1,2,"a\nb"': (1, 2.0, "a\nb"),
    b'"1","2","a""b,c"': (1, 2.0, 'a"b,c'),
    b'1,2,5" wide': (1, 2.0, '5" wide'),
    b"1,2,a\rb": (1, 2.0, "a\rb"),
    "1,2,\u00e9\u4e2d".encode(): (1, 2.0, "\u00e9\u4e2d"),
    b"0x1F,2,a": "n is not a whole number: 0x1F",
    b"1,0x1,a": "x is not a number: 0x1",
    b"1,nan,a": "x is not a number: nan",
    b"1,2,": "s is missing",
    b"1,2,NULL": "s is missing",
    b",2,a": "n is missing",
    b"1,2": "the row has 2 of 3 fields",
    b"1,2,a,b": "the row has more than 3 fields",
    b",".join([b"1"] * 100_000): "the row has more than 3 fields",
    b"1,2,\xe9": "the row is not utf-8 text",
    b"1,2,a\x00": "the row has a NUL byte",
    b"\x00" * 4096 + b"1,2,a": "the row has a NUL byte",
    b"\xef\xbb\xbf1,2,a": "the row begins with a byte order mark or a line end of another kind",
    b"\r1,2,a": "the row begins with a byte order mark or a line end of another kind",
    b'1,2,"a': "a quoted field does not end properly",
    b'1,2,"a"b': "a quoted field does not end properly",
    b"1,2," + b"a" * (1 << 20): "the row has 1,048,580 bytes, more than 1,048,576",
}


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("record", CASES, ids=lambda record: repr(record[:20]))
def test_an_odd_record_has_its_own_fate_and_the_others_are_read(tmp_path, record, line_end):
    good = [b"%d,2.5,a" % k for k in range(100)]
    lines = [HEADER.rstrip(), *good[:50], record, *good[50:], b""]
    rows = read_bytes(line_end.join(lines), tmp_path, LAYOUT)
    by_raw = {raw: values if reason is None else reason for *values, reason, raw in rows}
    expected = CASES[record]
    assert by_raw == {raw: [int(raw.split(b",")[0]), 2.5, "a"] for raw in good} | {
        record: list(expected) if isinstance(expected, tuple) else expected
    }
    assert len(rows) == 101


def test_columns_are_found_by_name_and_other_columns_are_ignored(tmp_path):
    assert read_bytes(b's, x ,more,"n"\na,2.5,?,1\n', tmp_path, LAYOUT) == [(1, 2.5, "a", None, b"a,2.5,?,1")]


def test_an_ignored_column_must_be_text_too(tmp_path):
    ((*_, reason, raw),) = read_bytes(b"n,x,s,more\n1,2,a,\xe9\n", tmp_path, LAYOUT)
    assert (reason, raw) == ("the row is not utf-8 text", b"1,2,a,\xe9")


@pytest.mark.parametrize(("header", "reason"), [
    (b"n,y,s", "the file has no column x (it has y)"),
    (b"n,x,s,s", "the file has two columns s"),
    (b"n", "the file has no column x, s"),
])  # fmt: skip
def test_rows_of_a_file_with_other_columns_are_refused_one_by_one(tmp_path, header, reason):
    rows = read_bytes(header + b'\n1,2,"a\nb"\n3,4,c\n', tmp_path, LAYOUT)
    assert [(row[-2], row[-1]) for row in rows] == [(reason, b'1,2,"a\nb"'), (reason, b"3,4,c")]


def test_without_any_column_the_first_line_is_a_row_too(tmp_path):
    rows = read_bytes(b"1,2,a\n3,4,c\n", tmp_path, LAYOUT)
    assert [row[-1] for row in rows] == [b"1,2,a", b"3,4,c"]
    assert {row[-2] for row in rows} == {"the file has no header: its first line names none of n, x, s"}


def test_a_layout_without_a_header(tmp_path):
    layout = RawFile("log", (), LAYOUT.columns, header=False)
    assert read_bytes(b"1,2,a\n2,,b", tmp_path, layout) == [
        (1, 2.0, "a", None, b"1,2,a"),
        (2, None, "b", None, b"2,,b"),
    ]


def test_quotes_without_a_meaning(tmp_path):
    layout = RawFile("log", (), LAYOUT.columns, separator="\t", quote="")
    rows = read_bytes(b'n\tx\ts\n1\t2\t"a\n2\t3\t"b" c\n', tmp_path, layout)
    assert [row[:4] for row in rows] == [(1, 2.0, '"a', None), (2, 3.0, '"b" c', None)]


def test_a_stray_quote_in_tab_separated_text_is_a_character(tmp_path):
    layout = RawFile("log", (), LAYOUT.columns, separator="\t")
    rows = read_bytes(b'n\tx\ts\n1\t2\t"a\n2\t3\t"b" c\n3\t4\t"d\te"\n4\t5\t"f\tg\n', tmp_path, layout)
    assert [(*row[:3], row[3]) for row in rows] == [
        (1, 2.0, '"a', None), (2, 3.0, '"b" c', None), (3, 4.0, "d\te", None),
        (None, None, None, "the row has more than 3 fields"),
    ]  # fmt: skip


def test_a_text_is_not_trimmed_so_that_two_users_stay_two(tmp_path):
    rows = read_bytes(HEADER + b"1,2,a\n1,2, a\n1,2,a \n", tmp_path, LAYOUT)
    assert {row[2] for row in rows} == {"a", " a", "a "}


@pytest.mark.parametrize(("encoding", "text"), [("latin-1", "\u00e9"), ("cp1252", "\u20ac"), ("gbk", "\u4e2d"),
                                                ("utf-16", "\u4e2d"), ("shift_jis", "\u8868")])  # fmt: skip
def test_another_encoding(tmp_path, encoding, text):
    layout = RawFile("log", (), LAYOUT.columns, encoding=encoding)
    rows = read_bytes(f"n,x,s\n1,2,{text}\n2,3,b\n".encode(encoding), tmp_path, layout)
    assert [row[:4] for row in rows] == [(1, 2.0, text, None), (2, 3.0, "b", None)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_decides_the_encoding(tmp_path, encoding):
    rows = read_bytes("n,x,s\n1,2,\u00e9\n".encode(encoding), tmp_path, LAYOUT)
    assert [row[:4] for row in rows] == [(1, 2.0, "\u00e9", None)]


def test_bytes_that_another_encoding_has_not(tmp_path):
    layout = RawFile("log", (), LAYOUT.columns, encoding="utf-16-le")
    data = "n,x,s\n1,2,a\n".encode("utf-16-le") + b"2\x00,\x003\x00,\x00\x00\xd8\n\x00" + "4,5,c\n".encode("utf-16-le")
    rows = read_bytes(data, tmp_path, layout)
    assert [row[3] for row in rows] == [None, "the row is not utf-16-le text", None]


@pytest.mark.slow
def test_fifty_megabytes_without_a_line_end_are_one_refused_row(tmp_path):
    long = b"1,2," + b"a" * (50 << 20)
    rows = read_bytes(HEADER + b"1,2,a\n" + long + b"\n3,4,b\n", tmp_path, LAYOUT)
    assert [row[:3] for row in rows if row[3] is None] == [(1, 2.0, "a"), (3, 4.0, "b")]
    (refused,) = (row for row in rows if row[3] is not None)
    assert refused[3] == "the row has 52,428,804 bytes, more than 1,048,576"
    assert refused[4] == long


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"PK\x03\x04zip", b"\x00" * 100, b"%PDF-1.7\n"])
def test_a_file_that_is_no_text_is_not_read(tmp_path, data):
    with pytest.raises(UnreadableFile, match=re.escape("read.csv is")):
        read_bytes(data, tmp_path, LAYOUT)

"""Separator, header and encoding are read off the first lines of a file."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.draft.text_layout import detected_encoding, is_header, text_layout
from schemas.errors import UserError

WORDS = st.text(alphabet='abcdefgh ,;|"äß', min_size=1, max_size=8)


def layout_of(text: str, *, is_whole: bool = True):
    return text_layout(text.encode(), "log.csv", is_whole=is_whole, max_records=100)


@settings(max_examples=30)
@given(
    separator=st.sampled_from([",", "\t", ";", "|"]),
    rows=st.lists(st.tuples(WORDS, st.integers(10, 99), st.integers(10, 99)), min_size=5, max_size=30),
)
def test_any_separator_is_recovered_with_all_fields(separator, rows):
    file = io.StringIO()
    csv.writer(file, delimiter=separator, lineterminator="\n").writerows([("title", "clicks", "age"), *rows])
    layout = layout_of(file.getvalue())
    assert layout.separator == separator
    assert layout.has_header
    assert layout.names == ("title", "clicks", "age")
    assert layout.records == tuple((word, str(clicks), str(age)) for word, clicks, age in rows)
    assert layout.damaged == 0


@pytest.mark.parametrize("separator", ["::", "||", "|||", "\t|\t", "|~|"])
def test_a_separator_of_several_characters_is_recovered(separator):
    rows = [(f"{k}", "", f'a "word" & {k}') for k in range(20)]
    layout = layout_of("\n".join(separator.join(row) for row in rows) + "\n")
    assert (layout.separator, layout.quote, layout.records) == (separator, "", tuple(rows))
    quoted = [separator.join(f'"{field}"' for field in row[:2]) for row in rows]
    layout = layout_of("\n".join(quoted) + "\n")
    assert (layout.separator, layout.quote, layout.records) == (separator, '"', tuple(row[:2] for row in rows))


def test_a_separator_whose_fields_are_often_empty_is_not_a_longer_one():
    layout = layout_of("a|b|c|d\n" + "1||2|\n3|||\n" * 5)
    assert (layout.separator, layout.names) == ("|", ("a", "b", "c", "d"))


@pytest.mark.parametrize(
    ("lines", "has_header"),
    [
        (["uid,ts,click", "u1,1700000000,1", "u2,1700000001,0"], True),
        (["u1,1700000000,1", "u2,1700000001,0"], False),
        ([",a,b", "0,x,1", "1,y,2"], True),  # a saved index has no name
        (["a,,b", "x,1,2"], False),  # a name is missing elsewhere
        (["a,a", "1,2"], False),  # two columns with one name
        (["name,city", "ann,Rome", "bob,Oslo"], True),  # words only
        (["ann,Rome", "bob,Oslo", "ann,Oslo"], False),  # the first words come again
        (["2024-03-31,ann", "2024-04-01,bob"], False),
        (["when,who"], True),
    ],
)
def test_a_header_has_names_and_no_values(lines, has_header):
    layout = layout_of("\n".join(lines) + "\n")
    assert layout.has_header is has_header
    assert len(layout.records) == len(lines) - has_header
    if not has_header:
        assert layout.names == tuple(f"column_{k + 1}" for k in range(len(layout.names)))


def test_records_keep_newlines_in_quotes_and_damaged_ones_are_counted():
    plain = [("2", "plain")] * 20
    layout = layout_of('id,note\n1,"two\nlines"\n' + "2,plain\n" * 20 + "3\n")
    assert layout.records == (("1", "two\nlines"), *plain)
    assert layout.damaged == 1


def test_the_last_line_of_a_cut_sample_is_not_read():
    assert layout_of("id,n\n1,10\n2,2", is_whole=False).records == (("1", "10"),)
    assert layout_of("id,n\n1,10\n2,2").records == (("1", "10"), ("2", "2"))


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"plain", "utf-8"),
        ("müde".encode(), "utf-8"),
        ("müde".encode()[:2], "utf-8"),  # the sample ends within a character
        ("müde".encode("latin-1"), "latin-1"),
        ("\u201cmüde\u201d".encode("cp1252"), "cp1252"),
        ("müde".encode("utf-16"), "utf-16"),
    ],
)
def test_the_encoding_follows_from_the_bytes(content, encoding):
    assert detected_encoding(content) == encoding


@pytest.mark.parametrize("text", ["", "  \n\n", "one\ntwo\nthree\n", "a\0b,c\n", "a,b\na,b\nc\nd\ne,f,g\nh,i,j,k\n"])
def test_a_file_that_is_no_table_is_one_clear_line(text):
    with pytest.raises(UserError, match=r"^log\.csv"):
        layout_of(text)


def test_a_header_above_times_only_is_a_header():
    assert is_header(["seen"], [["2024-03-31T10:00:00Z"]])


@pytest.mark.parametrize(
    ("header", "names", "repeated"),
    [
        ("user,ts,slot,slot", ("user", "ts", "", ""), ("slot",)),
        ("User,ts,user,click", ("User", "ts", "", "click"), ("user",)),
        ("user,ts,slot,", ("user", "ts", "slot", ""), ()),
    ],
)
def test_a_header_whose_names_are_not_all_different(header, names, repeated):
    layout = layout_of(f"{header}\n" + "".join(f"u{k},{1_711_833_300 + k},s,\n" for k in range(5)))
    assert (layout.has_header, layout.names, layout.repeated) == (True, names, repeated)

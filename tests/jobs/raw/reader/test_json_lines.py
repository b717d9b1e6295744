"""Rows of JSON lines: values by key, and a reason for each line that cannot be read."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_reading import read_bytes

from jobs.raw.reader.json_lines import json_tables, read_line
from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.records import Block
from jobs.raw.reader.source_files import SourceFile
from schemas.dataset import JSON_LINES, RawColumn, RawFile

LAYOUT = RawFile(
    "log", ("*.jsonl",), (RawColumn("n"), RawColumn("x", "double", nullable=True), RawColumn("s", "string")),
    format=JSON_LINES,
)  # fmt: skip
# For each line the values, or the reason why it is refused.
CASES = {
    b'{"n": 1, "x": 2.5, "s": "a"}': (1, 2.5, "a"),
    b'{"s": "a", "n": 1}': (1, None, "a"),
    b'{"n": "1", "x": null, "s": " a", "more": [1, {"n": 2}]}': (1, None, " a"),
    b'{"n": 1.0, "x": 1e3, "s": 1.10}': (1, 1000.0, "1.10"),
    b'{"n": true, "s": true}': (1, None, "true"),
    b'{"n": 9223372036854775807, "s": 12345678901234567890}': (2**63 - 1, None, "12345678901234567890"),
    b'{"n": 1, "s": {"b": [1, "x"]}}': (1, None, '{"b": [1, "x"]}'),
    b'{"n": 1, "s": "\\ud83d\\ude00\\n"}': (1, None, "\U0001f600\n"),
    b'{"n": 1, "s": "\\ud83d"}': "s has a character that is not text",
    b'{"n": 1, "s": "\\u0000"}': "s has a character that is not text",
    b'{"n": 1, "s": "a\xe9"}': "the row is not utf-8 text",
    b'{"n": 1, "s": "a\x00"}': "the row has a NUL byte",
    b'{"n": 1, "s": "a"': "the row is not JSON",
    b'{"n": 1, "s": "a"},': "the row is not JSON",
    b"[" * 100_000: "the row is not JSON",
    b'{"n": [1], "s": "a"}': "n is not a whole number: [1]",
    b'{"n": 1.5, "s": "a"}': "n is not a whole number: 1.5",
    b'{"n": 1, "x": NaN, "s": "a"}': "x is not a number: NaN",
    b'{"n": 1, "x": true, "s": "a"}': "x is not a number: true",
    b'{"n": 1, "s": ""}': "s is missing",
    b'{"x": 1}': "n is missing",
    b'{"n": 1, "n": 2, "s": "a"}': "a key occurs twice in the row",
    b"[1, 2]": "the row is not a JSON object",
    b"7": "the row is not a JSON object",
    b'{"n": 1, "s": "' + b"a" * (1 << 20) + b'"}': "the row has 1,048,593 bytes, more than 1,048,576",
}  # fmt: skip


@pytest.mark.parametrize("line", CASES, ids=lambda line: repr(line[:30]))
def test_lines(tmp_path, line):
    good = b'{"n": 7, "x": 1, "s": "good"}'
    rows = {raw: tuple(values) if reason is None else reason
            for *values, reason, raw in read_bytes(b"\n".join([good, b"", line]), tmp_path, LAYOUT)}  # fmt: skip
    assert rows == {good: (7, 1.0, "good"), line: CASES[line]}


def test_lines_are_the_same_in_splits(tmp_path):
    data = b"".join(b'{"n": %d, "s": "\\"%d"}\n' % (k, k) for k in range(100))
    assert read_bytes(data, tmp_path, LAYOUT, split_size=50, block_size=7) == read_bytes(data, tmp_path, LAYOUT)


def test_keys_that_are_not_read(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"n": 1, "why": 2, "s": "a"}\n')
    assert open_raw_file(path, LAYOUT).extra == ("why",)


def test_the_beginning_of_a_long_line_is_not_taken_for_the_line():
    start = b'{"n": 1, "x": 1, "s": "a"}'
    block = Block(start, np.array([0, len(start)]), False, size=70 << 20)
    source = SourceFile("/log.jsonl", "log.jsonl", 0, 0, JSON_LINES)
    (table,) = json_tables(block, source, LAYOUT)
    assert table.column("_reason")[0].as_py().startswith("the row has 73,400,320 bytes")


TEXTS = (b"1", b"-0", b"0", b"1.5", b"-0.0", b"1e3", b"1e400", b"9223372036854775808", b"18014398509481985", b"null",
         b"true", b"NaN", b'"7"', b'"a"', b'" "', b'"NULL"', b'"\\u00e9"', b'"\\ud800"', b'"\xc3\xa9"', b'"\xe9"',
         b"[{}", b"{}]", b"[]", b'{"b": 1}')  # fmt: skip
LINES = st.one_of(
    st.tuples(*(st.sampled_from(TEXTS) for _ in range(4))).map(b'{"n": %b, "x": %b, "s": %b, "more": %b}'.__mod__),
    st.sampled_from([b'{"n": 1', b'"s": "a"}', b'{"n": 1, "s": "a"}, {"n": 2, "s": "b"}', b'{"n": 1, "s": "a"}\r', b"7",
                     b'{"n": 1, "more": [{}', b"{}]}"]),
)  # fmt: skip


@pytest.mark.slow
@given(st.lists(LINES, min_size=1, max_size=40))
@settings(max_examples=200)
def test_lines_have_the_same_values_together_and_one_by_one(lines):
    """More good lines than the smallest group has, so that groups without an odd line are read together."""
    lines += [b'{"n": 7, "x": 1, "s": "good"}'] * 40
    layout = replace(LAYOUT, null_tokens=("NULL",))
    source = SourceFile("/log.jsonl", "log.jsonl", 0, 0, JSON_LINES)
    data = b"".join(line + b"\n" for line in lines)
    block = Block(data, np.cumsum([0, *(len(line) + 1 for line in lines)]), True)
    rows = [tuple(row.values()) for table in json_tables(block, source, layout) for row in table.to_pylist()]
    alone = [(*read_line(line.rstrip(b"\r"), source, layout, len(line)), line.rstrip(b"\r")) for line in lines]
    assert Counter(map(repr, rows)) == Counter(
        repr((*values, reason, raw, "log.jsonl")) for values, reason, raw in alone
    )


def test_one_array_of_objects_is_one_refused_row(tmp_path):
    ((*_, reason, _),) = read_bytes(b'[{"n": 1, "s": "a"}, {"n": 2, "s": "b"}]', tmp_path, LAYOUT)
    assert reason == "the row is not a JSON object"

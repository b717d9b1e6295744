"""Texts and their typed values, or the reasons for which they are refused."""

import pytest

from jobs.raw.reader.values import typed_values
from schemas.dataset import RawColumn, RawFile

WHOLE, NUMBER, TEXT = (RawColumn("v", dtype) for dtype in ("bigint", "double", "string"))


def value_of(text: str, column: RawColumn, *null_tokens: str):
    (value,), reason = typed_values([text], RawFile("log", (), (column,), null_tokens=null_tokens))
    return value if reason is None else reason


@pytest.mark.parametrize(("text", "value"), [
    ("7", 7), ("-7", -7), ("+5", 5), (" 5", 5), ("5\t", 5), ("007", 7), ("1.0", 1), ("1e3", 1000), ("1.5e1", 15),
    ("-0", 0), ("5.", 5), ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)),
    ("9007199254740991.0", 2**53 - 1),
])  # fmt: skip
def test_whole_numbers(text, value):
    assert value_of(text, WHOLE) == value


@pytest.mark.parametrize("text", [
    "1.5", "0x1F", "1_000", "1,000", "nan", "inf", "9223372036854775808", "9" * 40, "1e300", "1e999999", "\u0661",
    "9007199254740992.0", "9007199254740993.0", "--1", "1 2", "ten", "1e", "\u00a05", "true",
])  # fmt: skip
def test_no_whole_numbers(text):
    assert value_of(text, WHOLE).startswith("v is not a whole number: ")


@pytest.mark.parametrize(("text", "value"), [("2.5", 2.5), ("+.5", 0.5), ("1e-3", 0.001), (" 1", 1.0), ("1e-999", 0.0)])
def test_numbers(text, value):
    assert value_of(text, NUMBER) == value


@pytest.mark.parametrize("text", ["nan", "NaN", "Infinity", "-inf", "1e400", "0x1", "1d", "1,5", "."])
def test_no_numbers(text):
    assert value_of(text, NUMBER).startswith("v is not a number: ")


@pytest.mark.parametrize("text", [" a", "a ", "NULL", "\u00e9", "a\nb"])
def test_a_text_is_taken_as_it_is(text):
    assert value_of(text, TEXT) == text


@pytest.mark.parametrize("column", [WHOLE, NUMBER, TEXT])
@pytest.mark.parametrize(("text", "null_tokens"), [("", ()), ("  ", ()), ("\t", ()), ("NULL", ("NULL",)),
                                                   (r"\N", ("NULL", r"\N"))])  # fmt: skip
def test_missing_values(column, text, null_tokens):
    assert value_of(text, column, *null_tokens) == "v is missing"
    assert value_of(text, RawColumn("v", column.dtype, nullable=True), *null_tokens) is None


def test_a_reason_has_no_control_characters_and_not_the_whole_text():
    assert value_of("\x1b[2J" + "x" * 100, WHOLE) == "v is not a whole number: \\x1b[2J" + "x" * 30 + "..."


def test_the_other_values_of_a_refused_row_are_there():
    layout = RawFile("log", (), (RawColumn("a"), RawColumn("b"), RawColumn("c")))
    assert typed_values(["1", "x", ""], layout) == ([1, None, None], "b is not a whole number: x")

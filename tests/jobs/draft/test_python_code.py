"""Calls and comments are laid out as ruff format does."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.draft.python_code import LINE_LENGTH, Argument, assignment, call, comment_lines, elements, quoted, texts


def test_a_short_call_is_one_line_and_a_long_one_has_a_line_per_argument():
    assert assignment("x", call("f", "a", k=texts("b"))) == ['x = f(a, k=("b",))']
    long = "a" * 60
    assert assignment("x", call("f", long, k=call("g", long, "1"))) == [
        "x = f(",
        f"    {long},",
        f"    k=g({long}, 1),",
        ")",
    ]


def test_a_comment_stands_above_its_argument_and_opens_the_call():
    assert assignment("x", elements(Argument("a", "", "why\nand how"), "b")) == [
        "x = (",
        "    # why",
        "    # and how",
        "    a,",
        "    b,",
        ")",
    ]


def test_long_comments_are_wrapped():
    lines = comment_lines("word " * 60, indent=8)
    assert len(lines) == 3
    assert all(line.startswith("        # word") and len(line) <= LINE_LENGTH for line in lines)


@settings(max_examples=50)
@given(st.text(max_size=20))
def test_any_text_becomes_a_literal_of_the_same_text(text):
    assert ast.literal_eval(quoted(text)) == text


@pytest.mark.parametrize(("text", "literal"), [("a", '"a"'), ("it's", '"it\'s"'), ('say "a"', "'say \"a\"'")])
def test_double_quotes_are_preferred(text, literal):
    assert quoted(text) == literal

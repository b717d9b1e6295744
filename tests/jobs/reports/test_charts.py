"""The pictures of the report: lengths follow the values, and the alternative text has all figures."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.reports.charts import bars, columns, lines
from jobs.reports.formats import count, number, share
from jobs.reports.svg import WIDTH, Series

finite = st.floats(0, 1e12, allow_nan=False)


def drawn(svg) -> ET.Element:
    """The picture is well-formed XML."""
    return ET.fromstring(str(svg))


def rects(svg) -> list[ET.Element]:
    """The marks are the rectangles with a title."""
    return [r for r in drawn(svg).iter("rect") if r.find("title") is not None]


def texts(svg) -> list[str]:
    return [t.text for t in drawn(svg).iter("text")]


@given(st.lists(finite, min_size=2, max_size=12))
def test_the_length_of_a_bar_is_proportional_to_its_value(values):
    marks = rects(bars("t", [f"n{i}" for i in range(len(values))], [Series("", values)]))
    widths = [float(m.get("width")) for m in marks]
    assert len(widths) == len(values)
    assert all(w <= WIDTH for w in widths)
    top = max(values)
    for width, value in zip(widths, values, strict=True):
        if top:
            assert width == pytest.approx(max(max(widths) * value / top, 2), abs=0.2)


def test_bars_beyond_the_limit_and_bars_without_a_number_have_another_colour():
    marks = rects(bars("t", ["a", "b", "c"], [Series("", [0.9, 1.1, math.nan])], share, limit=1.0))
    assert ["beyond" in m.get("class") for m in marks] == [False, True, True]
    assert [m.find("title").text for m in marks] == ["a: 90.0%", "b: 110.0%", "c: no number"]


def test_the_limit_is_drawn_at_the_end_of_a_bar_of_its_value():
    picture = drawn(bars("t", ["a", "b"], [Series("", [1.0, 2.0])], limit=1.0))
    (line,) = [e for e in picture.iter("line") if e.get("class") == "limit"]
    assert float(line.get("x1")) == pytest.approx(float(rects_of(picture)[0].get("width")))


def rects_of(picture: ET.Element) -> list[ET.Element]:
    return [r for r in picture.iter("rect") if r.find("title") is not None]


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=14))
@example([(0.0, 5e-324)])
def test_columns_are_stacked_and_add_up(pairs):
    first, second = zip(*pairs, strict=True)
    picture = drawn(columns("t", [str(i) for i in range(len(pairs))], [Series("a", first), Series("b", second)]))
    height: dict[str, float] = {}
    for mark in rects_of(picture):
        x = mark.get("x")
        height[x] = height.get(x, 0) + float(mark.get("height"))
    totals = [a + b for a, b in pairs if a + b]
    if totals and len(height) == len(totals):
        tallest = max(height.values())
        for column, total in zip(height.values(), totals, strict=True):
            assert column == pytest.approx(tallest * total / max(totals), abs=0.5)


def test_a_missing_value_is_a_gap_in_the_line():
    picture = drawn(lines("t", list("abcde"), [Series("", [1, 2, None, 4, 5])]))
    paths = [line.get("points").split() for line in picture.iter("polyline")]
    assert [len(path) for path in paths] == [2, 2]
    assert len(list(picture.iter("circle"))) == 4


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.booleans())
@example([2.2e-309], False)  # smaller than any step of an axis
def test_every_point_lies_within_the_picture(values, from_zero):
    picture = drawn(lines("t", [str(i) for i in range(len(values))], [Series("", values)], from_zero=from_zero))
    height = float(picture.get("viewBox").split()[3])
    for mark in picture.iter("circle"):
        assert 0 <= float(mark.get("cx")) <= WIDTH
        assert 0 <= float(mark.get("cy")) <= height


def test_higher_is_higher():
    marks = list(drawn(lines("t", ["a", "b", "c"], [Series("", [1, 3, 2])])).iter("circle"))
    y = [float(m.get("cy")) for m in marks]
    assert y[1] < y[2] < y[0]


def test_values_that_hardly_differ_look_alike():
    marks = list(drawn(lines("t", ["a", "b"], [Series("", [1.0, 1.001])])).iter("circle"))
    assert abs(float(marks[0].get("cy")) - float(marks[1].get("cy"))) < 10


@pytest.mark.parametrize("draw", [bars, columns, lines])
def test_a_picture_without_values_is_complete(draw):
    assert drawn(draw("t", [], [Series("", [])])).get("role") == "img"
    assert drawn(draw("t", ["a"], [Series("x", [None])])).get("aria-label").startswith("t. ")


@pytest.mark.parametrize("draw", [bars, columns, lines])
def test_names_are_text(draw):
    evil = '<script>"&</svg>'
    picture = str(draw(evil, [evil, "b"], [Series(evil, [1, 2])]))
    assert "<script" not in picture
    assert evil in drawn(picture).get("aria-label")
    assert evil in "".join(drawn(picture).itertext())


def test_the_alternative_text_has_the_figures():
    assert (
        drawn(bars("Mix", ["a", "b"], [Series("x", [0.25, None]), Series("y", [0.5, 1])], share)).get("aria-label")
        == "Mix. a: x 25.0%, y 50.0%; b: x none, y 100.0%"
    )
    assert drawn(lines("Rows", ["1", "2", "3", "4"], [Series("", [5, 1, 9, 7])], count)).get("aria-label") == (
        "Rows. 5 (1) to 7 (4), lowest 1, highest 9"
    )


def test_only_labels_that_fit_are_drawn():
    labels = [f"{k} May" for k in range(1, 32)]
    day_labels = [t for t in texts(columns("t", labels, [Series("", [1] * 31)])) if re.fullmatch(r"\d+ May", t)]
    assert day_labels[0] == "31 May"
    assert 3 <= len(day_labels) <= 6


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3, "3"), (12345.6, "12,346"), (0.123456, "0.123"), (1e-7, "1e-07"), (1500000, "1,500,000")],
)
def test_numbers_have_three_significant_digits(value, text):
    assert number(value) == text

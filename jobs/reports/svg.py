"""The parts that the charts of jobs.reports.charts are put together from: frame, legend, axes and texts, as SVG.

Colours and letters come from the page's style sheet, so that a picture follows light, dark and print. Lengths are in
units of a drawing 360 wide, which a phone shows without scaling.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from jobs.reports.formats import Format, number, share

WIDTH = 360
LEFT, RIGHT = 58, 8  # margins of the area that columns and lines are drawn in
HEIGHT = 140  # of that area
LINE_HEIGHT = 18  # of a line of text
DIGIT_WIDTH = 8.7  # of a digit, or of a per cent sign between digits
_LETTER_WIDTH = 7.3  # of a letter of 13 px, on average
_SMALLEST_MAXIMUM = 1e-300  # of an axis: a smaller number has no power of ten below it
_COLOURS = 4

Point = tuple[float, float, int]  # x, y, and the position in the series


@dataclass(frozen=True, slots=True)
class Series:
    """One value for each label of a picture; None for a missing value."""

    name: str
    values: Sequence[float | None]


def colour(series: int) -> str:
    """The style class of a series' colour."""
    return f"s{series % _COLOURS}"


def svg(title: str, description: str, height: float, parts: Iterable[Markup]) -> Markup:
    """The whole picture. description: the figures in words, for people who cannot see it."""
    return Markup('<svg role="img" viewBox="0 0 {} {:.0f}" aria-label="{}">{}</svg>').format(
        WIDTH, height, f"{title}. {description}", Markup("").join(parts)
    )


def legend(series: Sequence[Series]) -> tuple[list[Markup], float]:
    """The names of the series, each with a square of its colour, and the y at which the chart begins."""
    if not any(s.name for s in series):
        return [], 2.0
    parts: list[Markup] = []
    x, y = 0.0, 2.0
    for k, s in enumerate(series):
        width = 16 + len(s.name) * _LETTER_WIDTH + 12
        if x and x + width > WIDTH:
            x, y = 0.0, y + LINE_HEIGHT
        parts.append(
            Markup('<rect class="fill {}" x="{:.1f}" y="{:.1f}" width="10" height="10"/>').format(colour(k), x, y)
        )
        parts.append(text(x + 14, y + 10, s.name))
        x += width
    return parts, y + LINE_HEIGHT + 6


def grid_lines(y: float, low: float, high: float, step: float, show: Format) -> list[Markup]:
    """Horizontal lines from low to high, each with its value on the left."""
    parts = []
    for n in range(round((high - low) / step) + 1):
        value = low + n * step
        line_y = y + HEIGHT * (1 - (value - low) / (high - low))
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            LEFT, WIDTH - RIGHT, line_y, line_y))  # fmt: skip
        parts.append(text(LEFT - 6, line_y + 4, _axis_value(value, step, show), "soft end"))
    return parts


def ticks(labels: Sequence[str], x: Sequence[float], y: float) -> list[Markup]:
    """Labels below the chart: all that fit, evenly spaced, always with the last one."""
    if not labels:
        return []
    room = max(len(label) for label in labels) * _LETTER_WIDTH + 14
    fitting = max(int((WIDTH - LEFT) // room), 2)
    stride = -(-len(labels) // fitting)
    parts = []
    for i in range(len(labels) - 1, -1, -stride):
        half = len(labels[i]) * _LETTER_WIDTH / 2
        anchor, label_x = ("end", WIDTH) if x[i] + half > WIDTH else ("middle", x[i])
        parts.append(text(label_x, y + LINE_HEIGHT + 3, labels[i], f"soft {anchor}"))
    return parts


def text(x: float, y: float, content: str, classes: str = "", title: str = "") -> Markup:
    """A text. title: shown under the pointer, if it differs from the text."""
    tooltip = Markup("<title>{}</title>").format(title) if title and title != content else ""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}{}</text>').format(classes, x, y, content, tooltip)


def cut(content: str, width: float) -> str:
    """The beginning of a text that fits into the width."""
    letters = int(width / _LETTER_WIDTH)
    return content if len(content) <= letters else content[: letters - 1] + "…"


def axis_from_zero(high: float) -> tuple[float, float]:
    """The end of an axis that begins at 0 and reaches `high`, and the round step between its lines."""
    if not _SMALLEST_MAXIMUM <= high < math.inf:
        return 1.0, 0.5
    power = 10.0 ** math.floor(math.log10(high))
    step = next(s * power for s in (0.2, 0.5, 1, 2, 5) if high / (s * power) <= 5)
    return math.ceil(high / step - 1e-9) * step, step


def axis_range(values: Sequence[float], show: Format, from_zero: bool) -> tuple[float, float]:
    """The range of an axis: it begins at 0 if that is near, and covers at least a fiftieth, since less is noise."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if from_zero or 0 <= low < high / 4:
        low = min(low, 0.0)
    lacking = (max(abs(low), abs(high)) / 50 or (0.01 if show is share else 1.0)) - (high - low)
    if lacking <= 0:
        return low, high
    return (low, high + lacking) if low == 0 else (low - lacking / 2, high + lacking / 2)


def unbroken_runs(points: Sequence[Point | None]) -> list[list[Point]]:
    """The points between the gaps."""
    return [[p for p in run if p] for is_point, run in groupby(points, key=bool) if is_point]


def describe(labels: Sequence[str], series: Sequence[Series], show: Format) -> str:
    """Each series in words: where it begins and ends, and its extremes."""
    descriptions = []
    for s in series:
        known = [(value, label) for value, label in zip(s.values, labels, strict=True) if is_finite(value)]
        prefix = f"{s.name}: " if s.name else ""
        if not known:
            descriptions.append(f"{prefix}no values")
        elif len(known) <= 3:
            descriptions.append(prefix + ", ".join(f"{show(value)} ({label})" for value, label in known))
        else:
            (first, first_label), (last, last_label) = known[0], known[-1]
            low, high = min(value for value, _ in known), max(value for value, _ in known)
            descriptions.append(
                f"{prefix}{show(first)} ({first_label}) to {show(last)} ({last_label}), "
                f"lowest {show(low)}, highest {show(high)}"
            )
    return "; ".join(descriptions)


def is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def value_text(value: float | None, show: Format) -> str:
    return "none" if value is None else show(value) if math.isfinite(value) else "no number"


def _axis_value(value: float, step: float, show: Format) -> str:
    """A value of an axis in at most six letters; shares in per cent."""
    if show is share:
        return f"{_axis_value(100 * value, 100 * step, number)}%"
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits}f}" if digits < 6 else f"{value:.2g}"

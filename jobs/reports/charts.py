"""Small pictures as SVG inside the page: bars, columns and lines.

Each is markup with a role, an alternative text, and a title for each mark.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup

from jobs.reports.formats import Format, number
from jobs.reports.svg import (
    DIGIT_WIDTH,
    HEIGHT,
    LEFT,
    LINE_HEIGHT,
    RIGHT,
    WIDTH,
    Point,
    Series,
    axis_from_zero,
    axis_range,
    colour,
    cut,
    describe,
    grid_lines,
    is_finite,
    legend,
    svg,
    text,
    ticks,
    unbroken_runs,
    value_text,
)

_BAR_HEIGHT = 15
_MOST_DOTS = 40  # a line with more points than this has no dots
_PAD = 4  # between the sides of the area and the first and last point of a line


def bars(
    title: str, labels: Sequence[str], series: Sequence[Series], show: Format = number, *, limit: float | None = None
) -> Markup:
    """One bar for each label and series, with its label above and its value behind it.

    Bars beyond the limit have another colour. A value that is not a number (NaN) counts as beyond every limit.
    """
    finite = [v for s in series for v in s.values if v is not None and math.isfinite(v)]
    maximum = max([*finite, limit or 0, 0]) or 1
    longest_value = max([len(show(v)) for v in finite], default=0)
    room = WIDTH - longest_value * DIGIT_WIDTH - 8
    parts, y = legend(series)
    start = y
    for i, label in enumerate(labels):
        parts.append(text(0, y + 12, cut(label, WIDTH), title=label))
        y += LINE_HEIGHT
        for k, s in enumerate(series):
            value = s.values[i]
            if value is None:
                parts.append(text(0, y + 10, "none", "soft"))
            else:
                width = room * max(value, 0) / maximum if math.isfinite(value) else 0.0
                is_beyond = limit is not None and not value <= limit
                classes = "beyond" if is_beyond else f"fill {colour(k)}"
                parts.append(_bar(y, max(width, 2), classes, _mark_title(label, s, value, show)))
                parts.append(text(width + 5, y + 10, value_text(value, show)))
            y += _BAR_HEIGHT
        y += 8
    if limit is not None:
        x = room * limit / maximum
        parts.append(Markup('<line class="limit" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x, start, y))
    descriptions = [
        f"{label}: " + ", ".join(f"{s.name} {value_text(s.values[i], show)}".strip() for s in series)
        for i, label in enumerate(labels)
    ]
    return svg(title, "; ".join(descriptions), y, parts)


def _bar(y: float, width: float, classes: str, title: str) -> Markup:
    return Markup('<rect class="{}" x="0" y="{}" width="{:.1f}" height="{}"><title>{}</title></rect>').format(
        classes, y, width, _BAR_HEIGHT - 3, title
    )


def columns(title: str, labels: Sequence[str], series: Sequence[Series], show: Format = number) -> Markup:
    """One column for each label, with the series on top of each other, the first at the bottom."""
    totals = [sum(s.values[i] or 0 for s in series) for i in range(len(labels))]
    maximum, step = axis_from_zero(max([*totals, 0]))
    parts, y = legend(series)
    parts += grid_lines(y, 0, maximum, step, show)
    slot = (WIDTH - LEFT - RIGHT) / max(len(labels), 1)
    for i, label in enumerate(labels):
        total_below = 0.0
        for k, s in enumerate(series):
            value = s.values[i] or 0
            if not value:
                continue
            height = HEIGHT * value / maximum
            bottom = y + HEIGHT - HEIGHT * total_below / maximum
            parts.append(
                Markup('<rect class="fill {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                       "<title>{}</title></rect>").format(
                    colour(k), LEFT + slot * (i + 0.12), bottom - height, slot * 0.76, height,
                    _mark_title(label, s, value, show),
                )
            )  # fmt: skip
            total_below += value
    y += HEIGHT
    parts += ticks(labels, [LEFT + slot * (i + 0.5) for i in range(len(labels))], y)
    return svg(title, describe(labels, series, show), y + LINE_HEIGHT + 9, parts)


def lines(
    title: str, labels: Sequence[str], series: Sequence[Series], show: Format = number, *, from_zero: bool = False
) -> Markup:
    """One line for each series over the labels; a missing value leaves a gap."""
    finite = [v for s in series for v in s.values if v is not None and math.isfinite(v)]
    low, high = axis_range(finite, show, from_zero)
    _, step = axis_from_zero(high - low)
    low = math.floor(low / step) * step
    high = max(math.ceil(high / step - 1e-9) * step, low + step)
    parts, y = legend(series)
    parts += grid_lines(y, low, high, step, show)
    x = _evenly_spaced(len(labels))
    for k, s in enumerate(series):
        points = [
            (x[i], y + HEIGHT * (1 - (value - low) / (high - low)), i) if is_finite(value) else None
            for i, value in enumerate(s.values)
        ]
        for run in unbroken_runs(points):
            parts += _line(run, k, labels, s, show)
    y += HEIGHT
    parts += ticks(labels, x, y)
    return svg(title, describe(labels, series, show), y + LINE_HEIGHT + 9, parts)


def _evenly_spaced(count: int) -> list[float]:
    width = WIDTH - LEFT - RIGHT - 2 * _PAD
    return [LEFT + _PAD + (width * i / (count - 1) if count > 1 else width / 2) for i in range(count)]


def _line(run: list[Point], series: int, labels: Sequence[str], values: Series, show: Format) -> list[Markup]:
    """A line through a run of points, with a dot on each point if there are few labels."""
    parts = []
    if len(run) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in run)
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(colour(series), path))
    for x, y, i in run:
        if len(labels) <= _MOST_DOTS or len(run) == 1:
            parts.append(
                Markup('<circle class="fill {}" cx="{:.1f}" cy="{:.1f}" r="2.6"><title>{}</title></circle>').format(
                    colour(series), x, y, _mark_title(labels[i], values, values.values[i], show)
                )
            )
    return parts


def _mark_title(label: str, series: Series, value: float | None, show: Format) -> str:
    """The text that a browser shows for a mark under the pointer."""
    return (
        f"{label}, {series.name}: {value_text(value, show)}" if series.name else f"{label}: {value_text(value, show)}"
    )

"""Small pictures as SVG that stands in the page itself: bars, columns, lines.

Each is a string of markup with a role, an alternative text and a title a mark; colours and letters come from the page's
style sheet, so that a picture follows light, dark and print. Lengths are in units of a drawing 360 wide, which is what
a phone shows without scaling.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 360
_LETTER = 7.3  # width of a letter of 13 px, on average
_DIGIT = 8.7  # width of a digit, or a per cent sign between digits
_LINE = 18  # height of a line of text
_ROW = 15  # height of a bar
_LEFT, _RIGHT = 58, 8
_HEIGHT = 140  # of the area that columns and lines are drawn in
_MOST_MARKS = 40  # with more points than this, a line has no dots
_LEAST = 1e-300  # of what an axis reaches: a power of ten can still be told from 0
_SERIES = 4  # colours there are

Show = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """Values beside the labels of a picture; None where there is none."""

    name: str
    values: Sequence[float | None]


def count(value: float) -> str:
    return f"{value:,.0f}"


def share(value: float) -> str:
    return f"{value:.1%}"


def number(value: float) -> str:
    """Three digits that say something; whole numbers as they are."""
    if value == 0 or (float(value).is_integer() and abs(value) < 1e15) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bars(
    title: str, labels: Sequence[str], series: Sequence[Series], show: Show = number, *, limit: float | None = None
) -> Markup:
    """A bar a label and series, its name above and its value behind it; those beyond the limit stand out.

    A bar of a value that is no number (NaN) counts as beyond every limit.
    """
    finite = [v for s in series for v in s.values if v is not None and math.isfinite(v)]
    top = max([*finite, limit or 0, 0]) or 1
    longest = max([len(show(v)) for v in finite], default=0)
    room = WIDTH - longest * _DIGIT - 8
    parts, y = _legend(series)
    start = y
    for i, label in enumerate(labels):
        parts.append(_text(0, y + 12, _cut(label, WIDTH), title=label))
        y += _LINE
        for k, each in enumerate(series):
            value = each.values[i]
            if value is None:
                parts.append(_text(0, y + 10, "none", "soft"))
            else:
                known = math.isfinite(value)
                beyond = limit is not None and not value <= limit
                width = room * max(value, 0) / top if known else 0.0
                said = show(value) if known else "no number"
                parts.append(
                    Markup('<rect class="{}" x="0" y="{}" width="{:.1f}" height="{}"><title>{}</title></rect>').format(
                        "beyond" if beyond else f"fill s{k % _SERIES}", y, max(width, 2), _ROW - 3,
                        f"{label}, {each.name}: {said}" if each.name else f"{label}: {said}",
                    )
                )  # fmt: skip
                parts.append(_text(width + 5, y + 10, said))
            y += _ROW
        y += 8
    if limit is not None:
        x = room * limit / top
        parts.append(Markup('<line class="limit" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x, start, y))
    told = [
        f"{label}: "
        + ", ".join(f"{s.name} {_said(s.values[i], show)}".strip() for s in series)
        for i, label in enumerate(labels)
    ]  # fmt: skip
    return _svg(title, "; ".join(told), y, parts)


def columns(title: str, labels: Sequence[str], series: Sequence[Series], show: Show = number) -> Markup:
    """A column a label, of the series on top of each other, the first at the bottom."""
    totals = [sum(s.values[i] or 0 for s in series) for i in range(len(labels))]
    top, step = _scale(max([*totals, 0]))
    parts, y = _legend(series)
    parts += _grid(y, 0, top, step, show)
    slot = (WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    for i, label in enumerate(labels):
        at = 0.0
        for k, each in enumerate(series):
            value = each.values[i] or 0
            if not value:
                continue
            height = _HEIGHT * value / top
            bottom = y + _HEIGHT - _HEIGHT * at / top
            parts.append(
                Markup('<rect class="fill s{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                       "<title>{}</title></rect>").format(
                    k % _SERIES, _LEFT + slot * (i + 0.12), bottom - height, slot * 0.76, height,
                    f"{label}, {each.name}: {show(value)}" if each.name else f"{label}: {show(value)}",
                )
            )  # fmt: skip
            at += value
    y += _HEIGHT
    parts += _ticks(labels, [_LEFT + slot * (i + 0.5) for i in range(len(labels))], y)
    return _svg(title, _told(labels, series, show), y + _LINE + 9, parts)


def lines(
    title: str, labels: Sequence[str], series: Sequence[Series], show: Show = number, *, from_zero: bool = False
) -> Markup:
    """A line a series over the labels; a missing value leaves a gap."""
    finite = [v for s in series for v in s.values if v is not None and math.isfinite(v)]
    low, high = _range(finite, show, from_zero)
    _, step = _scale(high - low)
    low, high = math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step
    parts, y = _legend(series)
    parts += _grid(y, low, high, step, show)
    width = WIDTH - _LEFT - _RIGHT - 8
    x = [_LEFT + 4 + (width * i / (len(labels) - 1) if len(labels) > 1 else width / 2) for i in range(len(labels))]
    for k, each in enumerate(series):
        points = [
            (x[i], y + _HEIGHT * (1 - (value - low) / (high - low)), i) if _known(value) else None
            for i, value in enumerate(each.values)
        ]
        for run in _runs(points):
            if len(run) > 1:
                path = " ".join(f"{px:.1f},{py:.1f}" for px, py, _ in run)
                parts.append(Markup('<polyline class="line s{}" points="{}"/>').format(k % _SERIES, path))
            for px, py, i in run:
                if len(labels) <= _MOST_MARKS or len(run) == 1:
                    said = f"{labels[i]}, {each.name}: " if each.name else f"{labels[i]}: "
                    parts.append(
                        Markup('<circle class="fill s{}" cx="{:.1f}" cy="{:.1f}" r="2.6"><title>{}</title></circle>')
                        .format(k % _SERIES, px, py, said + show(each.values[i]))
                    )  # fmt: skip
    y += _HEIGHT
    parts += _ticks(labels, x, y)
    return _svg(title, _told(labels, series, show), y + _LINE + 9, parts)


def _svg(title: str, told: str, height: float, parts: Iterable[Markup]) -> Markup:
    """The whole picture; `told` is what somebody hears who does not see it."""
    return Markup('<svg role="img" viewBox="0 0 {} {:.0f}" aria-label="{}">{}</svg>').format(
        WIDTH, height, f"{title}. {told}", Markup("").join(parts)
    )


def _legend(series: Sequence[Series]) -> tuple[list[Markup], float]:
    """Names beside squares of their colour, as many lines as they need; and where the picture may begin."""
    if not any(each.name for each in series):
        return [], 2.0
    parts: list[Markup] = []
    x, y = 0.0, 2.0
    for k, each in enumerate(series):
        width = 16 + len(each.name) * _LETTER + 12
        if x and x + width > WIDTH:
            x, y = 0.0, y + _LINE
        parts.append(
            Markup('<rect class="fill s{}" x="{:.1f}" y="{:.1f}" width="10" height="10"/>').format(k % _SERIES, x, y)
        )
        parts.append(_text(x + 14, y + 10, each.name))
        x += width
    return parts, y + _LINE + 6


def _grid(y: float, low: float, high: float, step: float, show: Show) -> list[Markup]:
    """Lines across, each with its value on the left."""
    parts = []
    for n in range(round((high - low) / step) + 1):
        value = low + n * step
        at = y + _HEIGHT * (1 - (value - low) / (high - low))
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            _LEFT, WIDTH - _RIGHT, at, at))  # fmt: skip
        parts.append(_text(_LEFT - 6, at + 4, _short(value, step, show), "soft end"))
    return parts


def _ticks(labels: Sequence[str], x: Sequence[float], y: float) -> list[Markup]:
    """As many labels below as have room, evenly, the last among them."""
    if not labels:
        return []
    room = max(len(label) for label in labels) * _LETTER + 14
    most = max(int((WIDTH - _LEFT) // room), 2)
    stride = -(-len(labels) // most)
    chosen = range(len(labels) - 1, -1, -stride)
    parts = []
    for i in chosen:
        half = len(labels[i]) * _LETTER / 2
        kind, at = ("end", WIDTH) if x[i] + half > WIDTH else ("middle", x[i])
        parts.append(_text(at, y + _LINE + 3, labels[i], f"soft {kind}"))
    return parts


def _text(x: float, y: float, text: str, kind: str = "", title: str = "") -> Markup:
    known = Markup("<title>{}</title>").format(title) if title and title != text else ""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}{}</text>').format(kind, x, y, text, known)


def _cut(text: str, width: float) -> str:
    most = int(width / _LETTER)
    return text if len(text) <= most else text[: most - 1] + "…"


def _scale(high: float) -> tuple[float, float]:
    """The end of an axis from 0 that reaches `high`, and the round step between its lines."""
    if not _LEAST <= high < math.inf:
        return 1.0, 0.5
    power = 10.0 ** math.floor(math.log10(high))
    step = next(s * power for s in (0.2, 0.5, 1, 2, 5) if high / (s * power) <= 5)
    return math.ceil(high / step - 1e-9) * step, step


def _range(values: Sequence[float], show: Show, from_zero: bool) -> tuple[float, float]:
    """What an axis has to show: from 0 where that is near, and never less than a fiftieth, which is but noise."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if from_zero or 0 <= low < high / 4:
        low = min(low, 0.0)
    lacking = (max(abs(low), abs(high)) / 50 or (0.01 if show is share else 1.0)) - (high - low)
    if lacking <= 0:
        return low, high
    return (low, high + lacking) if low == 0 else (low - lacking / 2, high + lacking / 2)


def _short(value: float, step: float, show: Show) -> str:
    """A value of an axis, in at most six letters; shares in per cent."""
    if show is share:
        return f"{_short(100 * value, 100 * step, number)}%"
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits}f}" if digits < 6 else f"{value:.2g}"


def _runs(points: Sequence[tuple[float, float, int] | None]) -> list[list[tuple[float, float, int]]]:
    """The points between the gaps."""
    runs: list[list[tuple[float, float, int]]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _told(labels: Sequence[str], series: Sequence[Series], show: Show) -> str:
    """A series in words: where it begins and ends, and its extremes."""
    told = []
    for each in series:
        found = [(v, label) for v, label in zip(each.values, labels, strict=True) if _known(v)]
        name = f"{each.name}: " if each.name else ""
        if not found:
            told.append(f"{name}no values")
        elif len(found) <= 3:
            told.append(name + ", ".join(f"{show(v)} ({label})" for v, label in found))
        else:
            (first, begin), (last, end) = found[0], found[-1]
            low, high = min(v for v, _ in found), max(v for v, _ in found)
            told.append(
                f"{name}{show(first)} ({begin}) to {show(last)} ({end}), lowest {show(low)}, highest {show(high)}"
            )
    return "; ".join(told)


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _said(value: float | None, show: Show) -> str:
    return "none" if value is None else show(value) if math.isfinite(value) else "no number"

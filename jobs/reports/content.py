"""The content of a report's sections: values that the templates turn into HTML and escape."""

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

SEVERITY_BADGES: Mapping[str, str] = {"critical": "fail", "warning": "warn"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table, or a line of a section, with more than plain text.

    badge: pass, warn or fail. code: in a font of fixed width, line breaks included. small: a second line.
    """

    text: str
    href: str = ""
    badge: str = ""
    code: bool = False
    small: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG of jobs.reports.charts. look: one line about what to look for."""

    title: str
    svg: Markup
    look: str


@dataclass(frozen=True, slots=True)
class HtmlTable:
    """A table of a section. number_columns: aligned to the right. folded: shown on demand."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    number_columns: frozenset[int] = frozenset()
    folded: bool = False


@dataclass(frozen=True, slots=True)
class TrendFigure:
    """One figure of a day. The index draws it over the days: one picture per name, one line per series.

    show: the name of a format in jobs.reports.formats. from_zero: whether the axis begins at 0.
    """

    picture: str
    series: str
    value: float
    show: str
    look: str
    from_zero: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a day's report. text: an introduction, and a sentence for each missing part."""

    name: str  # its anchor
    title: str
    text: tuple[str | Cell, ...]
    pictures: tuple[Picture, ...] = ()
    tables: tuple[HtmlTable, ...] = ()
    trend_figures: tuple[TrendFigure, ...] = ()


def badge_of(is_good: bool, severity: str) -> str:
    return "pass" if is_good else SEVERITY_BADGES[severity]

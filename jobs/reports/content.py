"""What a section of the report is made of: values, which the templates turn into HTML (and escape)."""

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table, or a line of a section, that is more than its text.

    badge: pass, warn or fail. code: letter by letter. small: said below it.
    """

    text: str
    href: str = ""
    badge: str = ""
    code: bool = False
    small: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG of jobs.reports.svg, with one line that says what to look for."""

    title: str
    svg: Markup
    look: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. numbers: the columns that stand on the right. folded: shown on demand."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    numbers: frozenset[int] = frozenset()
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Headline:
    """One figure of a day for the index, which draws a line over the days for each series of a picture.

    show: count, share or number (the functions of jobs.reports.svg). from_zero: the picture's axis begins there.
    """

    picture: str
    series: str
    value: float
    show: str
    look: str
    from_zero: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a day's report. text: what it is about, and in plain words what is missing."""

    name: str  # its anchor
    title: str
    text: tuple[str | Cell, ...]
    pictures: tuple[Picture, ...] = ()
    grids: tuple[Grid, ...] = ()
    headlines: tuple[Headline, ...] = ()


def badge_of(holds: bool, severity: str) -> str:
    return "pass" if holds else SEVERITY_BADGES[severity]


SEVERITY_BADGES: Mapping[str, str] = {"critical": "fail", "warning": "warn"}

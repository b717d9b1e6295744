"""How pages write days and numbers."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date

Format = Callable[[float], str]


def count(value: float) -> str:
    return f"{value:,.0f}"


def share(value: float) -> str:
    return f"{value:.1%}"


def number(value: float) -> str:
    """Three significant digits; whole numbers in full."""
    if value == 0 or (float(value).is_integer() and abs(value) < 1e15) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def signed(value: float | None) -> str:
    """A difference with its sign and four digits; "unknown" without a value."""
    return "unknown" if value is None else f"{value:+.4f}"


# By the name that a trend figure stores.
FORMATS: Mapping[str, Format] = {"count": count, "share": share, "number": number}


def share_of(part: int, total: int) -> str:
    return share(part / total) if total else "0 %"


def short_day(day: str) -> str:
    """2022-05-08 -> 8 May"""
    parsed = date.fromisoformat(day)
    return f"{parsed.day} {parsed:%b}"


def short_days(days: Sequence[str]) -> list[str]:
    return [short_day(day) for day in days]


def long_day(day: str) -> str:
    """2022-05-08 -> Sunday 8 May 2022"""
    parsed = date.fromisoformat(day)
    return f"{parsed:%A} {parsed.day} {parsed:%B %Y}"

"""Days as people write them."""

from collections.abc import Sequence
from datetime import date


def short_day(ds: str) -> str:
    """2022-05-08 -> 8 May"""
    day = date.fromisoformat(ds)
    return f"{day.day} {day:%b}"


def short_days(days: Sequence[str]) -> list[str]:
    return [short_day(ds) for ds in days]


def long_day(ds: str) -> str:
    """2022-05-08 -> Sunday 8 May 2022"""
    day = date.fromisoformat(ds)
    return f"{day:%A} {day.day} {day:%B %Y}"

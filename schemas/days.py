"""Calendar days as text, YYYY-MM-DD. They are the key of every partition."""

from datetime import date, timedelta

from schemas.errors import UserError

# The partition of quarantined rows whose day cannot be read or is outside the log.
UNDATED = "undated"


def checked_day(day: str) -> str:
    """The day itself. Raises UserError if it is not written as YYYY-MM-DD."""
    try:
        if date.fromisoformat(day).isoformat() == day:
            return day
    except ValueError:
        pass
    raise UserError(f"'{day}' is not a day: write it as YYYY-MM-DD")


def days_between(first: str, last: str) -> list[str]:
    """All days from first to last, both included. Raises UserError if last is before first."""
    start, end = date.fromisoformat(checked_day(first)), date.fromisoformat(checked_day(last))
    if end < start:
        raise UserError(f"the range of days is empty: {first} is after {last}")
    return [(start + timedelta(days=k)).isoformat() for k in range((end - start).days + 1)]


def day_plus(day: str, days: int) -> str:
    """The day that is `days` days later, or earlier if `days` is negative."""
    return (date.fromisoformat(checked_day(day)) + timedelta(days=days)).isoformat()


def day_before(day: str) -> str:
    """The previous day."""
    return day_plus(day, -1)

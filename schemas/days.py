"""Calendar days as text, YYYY-MM-DD. They are the key of every partition."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

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


@cache
def first_hour(timezone: str) -> int:
    """The first hour of the day that no day from 2020 to 2040 lacks: 0, except where clocks go forward at midnight.

    timezone: a name of the tz database.
    """
    zone, start = ZoneInfo(timezone), datetime(2020, 1, 1)
    weeks = [start + timedelta(weeks=k) for k in range(21 * 53)]
    offsets = [day.replace(tzinfo=zone).utcoffset() for day in weeks]
    changed_weeks = [
        week for week, now, later in zip(weeks, offsets, offsets[1:], strict=False) if now != later
    ]  # no zone changes its clocks twice within a week
    days = [week + timedelta(days=k) for week in changed_weeks for k in range(8)]
    return next(hour for hour in range(24) if all(_exists(day.replace(hour=hour), zone) for day in days))


def _exists(local_time: datetime, zone: ZoneInfo) -> bool:
    aware = local_time.replace(tzinfo=zone)
    return aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local_time


def day_before(day: str) -> str:
    """The previous day."""
    return day_plus(day, -1)

"""Which notation the texts of a column write times in: unit of an epoch, order of digits, ISO, zone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from jobs.draft.values import ColumnSample

EPOCH, DIGITS, ISO, PATTERN, FROM_START = "epoch", "digits", "iso", "pattern", "from start"

# Times outside these years are taken for other numbers.
_FIRST_YEAR, _LAST_YEAR = 1995, 2035
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_UNIT_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

# Python's notation for parsing, the contract's (where one letter reads one or two digits), and the resolution
# in seconds. If two notations read all texts, the earlier one in the list counts.
_DIGITS = (
    ("%Y%m%d%H%M%S%f", "yyyyMMddHHmmssSSS", 17, 0.001),
    ("%Y%m%d%H%M%S", "yyyyMMddHHmmss", 14, 1.0),
    ("%Y%m%d%H%M", "yyyyMMddHHmm", 12, 60.0),
    ("%y%m%d%H%M%S", "yyMMddHHmmss", 12, 1.0),
    ("%Y%m%d%H", "yyyyMMddHH", 10, 3600.0),
    ("%Y%m%d", "yyyyMMdd", 8, 86_400.0),
    ("%y%m%d%H", "yyMMddHH", 8, 3600.0),
)
_CLOCKS = (
    ("%H:%M:%S.%f", "H:mm:ss.SSS", 0.001), ("%H:%M:%S", "H:mm:ss", 1.0), ("%H:%M", "H:mm", 60.0),
    ("%I:%M:%S %p", "h:mm:ss a", 1.0), ("%I:%M %p", "h:mm a", 60.0), ("", "", 86_400.0),
)  # fmt: skip
_DATES = (
    ("%d.%m.%Y", "d.M.yyyy"), ("%d/%m/%Y", "d/M/yyyy"), ("%m/%d/%Y", "M/d/yyyy"), ("%d-%m-%Y", "d-M-yyyy"),
    ("%Y/%m/%d", "yyyy/M/d"), ("%Y-%m-%d", "yyyy-M-d"), ("%d/%b/%Y", "d/MMM/yyyy"), ("%d %b %Y", "d MMM yyyy"),
)  # fmt: skip
_ISO = re.compile(
    r"\d{4}-\d{2}-\d{2}(?P<clock>[T ]\d{2}:\d{2}(?::\d{2}(?P<fraction>[.,]\d+)?)?)?\s?"
    r"(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?"
)
_ZONE_AT_END = re.compile(r"\s?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2})$")


@dataclass(frozen=True, slots=True)
class TimeNotation:
    """How a column writes times.

    kind: EPOCH (unit: s, ms, us or ns), DIGITS and PATTERN (pattern: the letters of schemas/times.py), ISO, FROM_START
    (seconds since an unknown start).
    zones: the zones that the texts name, such as +09:00; empty if they name none, which is a naive local time except
    for an epoch.
    resolution_s: the smallest difference that the notation writes.
    first, last: the earliest and the latest time; naive times are read as UTC. None for FROM_START.
    is_ambiguous: whether day and month could be exchanged.
    """

    kind: str
    resolution_s: float
    unit: str = ""
    pattern: str = ""
    zones: tuple[str, ...] = ()
    first: datetime | None = None
    last: datetime | None = None
    is_ambiguous: bool = False

    @property
    def is_naive(self) -> bool:
        """Whether a person must say in which zone the clock was."""
        return self.kind in (DIGITS, ISO, PATTERN) and not self.zones


def time_notation(column: ColumnSample) -> TimeNotation | None:
    """The notation in which at least 99 of 100 values are times, or None."""
    values = column.values
    if not values:
        return None
    sample = sorted(set(values))
    if column.dtype == "string" and not all(value.isdigit() for value in sample[:100]):
        return _iso(sample) or _pattern(sample)
    return _digits(sample) or _epoch(sample) or _from_start(column)


def _iso(values: Sequence[str]) -> TimeNotation | None:
    matches = [match for value in values if (match := _ISO.fullmatch(value))]
    times = _parsed([_iso_text(match) for match in matches], None)
    if len(times) < 0.99 * len(values):
        return None
    zones = {match["zone"] for match in matches}
    if None in zones and len(zones) > 1:  # in part naive: a zone is needed for the others
        zones = {None}
    if not any(match["clock"] for match in matches):
        resolution_s = 86_400.0
    elif any(match["fraction"] for match in matches):
        resolution_s = 0.001
    else:
        resolution_s = 1.0 if any(match["clock"] and match["clock"].count(":") > 1 for match in matches) else 60.0
    named = tuple(sorted("UTC" if zone in ("Z", "UTC", "GMT") else zone for zone in zones if zone))
    return TimeNotation(ISO, resolution_s, zones=tuple(dict.fromkeys(named)), first=min(times), last=max(times))


def _iso_text(match: re.Match[str]) -> str:
    clock, zone = match["clock"] or "", match["zone"] or ""
    date = match.string[:10]
    return f"{date}{clock.replace(',', '.')}{'+00:00' if zone in ('Z', 'UTC', 'GMT') else zone}"


def _pattern(values: Sequence[str]) -> TimeNotation | None:
    zoned = sum(_ZONE_AT_END.search(value) is not None for value in values) >= 0.99 * len(values)
    texts = [_ZONE_AT_END.sub("", value) for value in values] if zoned else list(values)
    for joint in (" ", "T", ":", ", ", ""):
        for clock, spark_clock, resolution_s in _CLOCKS:
            if (joint == "") != (clock == ""):
                continue
            readable = []
            for date, spark_date in _DATES:
                if not _parsed(texts[:20], f"{date}{joint}{clock}"):
                    continue
                times = _parsed(texts, f"{date}{joint}{clock}")
                if len(times) >= 0.99 * len(values):
                    readable.append((spark_date, times))
            if readable:
                spark_date, times = readable[0]
                separator = joint if joint in (" ", ":", ", ", "") else f"'{joint}'"
                pattern = f"{spark_date}{separator}{spark_clock}{' XX' if zoned else ''}"
                zones = tuple(sorted({m[0].strip() for value in values if (m := _ZONE_AT_END.search(value))}))
                return TimeNotation(
                    PATTERN, resolution_s, pattern=pattern, zones=zones if zoned else (), first=min(times),
                    last=max(times), is_ambiguous=len(readable) > 1,
                )  # fmt: skip
    return None


def _digits(values: Sequence[str]) -> TimeNotation | None:
    for python_pattern, pattern, length, resolution_s in _DIGITS:
        texts = [value for value in values if len(value) == length and value.isdigit()]
        if len(texts) < 0.99 * len(values):
            continue
        times = _parsed(texts, python_pattern)
        # Ten digits can also be the seconds of an epoch, but few of those are all valid dates.
        if len(times) >= 0.99 * len(values):
            return TimeNotation(DIGITS, resolution_s, pattern=pattern, first=min(times), last=max(times))
    return None


def _epoch(values: Sequence[str]) -> TimeNotation | None:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    first, last = datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC), datetime(_LAST_YEAR, 1, 1, tzinfo=UTC)
    for unit, factor in _UNITS.items():
        plausible = [n for n in numbers if first.timestamp() <= n / factor < last.timestamp()]
        if len(plausible) >= 0.99 * len(numbers):
            earliest, latest = (datetime.fromtimestamp(n / factor, UTC) for n in (min(plausible), max(plausible)))
            return TimeNotation(EPOCH, _UNIT_SECONDS[unit], unit, first=earliest, last=latest)
    return None


def _from_start(column: ColumnSample) -> TimeNotation | None:
    """Seconds since the log's start: whole numbers that only grow and have a name that means time."""
    if column.dtype != "bigint" or not re.search(r"time|(?:^|_)ts$|second|sec$", column.name.lower()):
        return None
    numbers = [int(value) for value in column.values]
    grows = numbers == sorted(numbers)
    return TimeNotation(FROM_START, 1.0) if grows and numbers[0] >= 0 and numbers[-1] > numbers[0] else None


def _parsed(texts: Sequence[str], pattern: str | None) -> list[datetime]:
    """The texts as times of plausible years; all other texts are left out. Without a pattern: ISO."""
    times = []
    for text in texts:
        try:
            time = datetime.fromisoformat(text) if pattern is None else datetime.strptime(text, pattern)
        except ValueError:
            continue
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        if _FIRST_YEAR <= time.year < _LAST_YEAR:
            times.append(time)
    return times

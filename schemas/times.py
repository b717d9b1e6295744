"""DuckDB SQL for times of a raw log: milliseconds since 1970 UTC, the form that a contract needs.

Each function takes an expression over a raw column, such as "log.timestamp", and returns an expression that is NULL if
the time cannot be read. A time without a zone (local time) needs the argument `zone`, such as "Asia/Shanghai": without
it the day of an exposure, and the order of a conversion and its exposure, would shift by hours.
"""

import re
from functools import cache
from zoneinfo import available_timezones

from schemas.contract import UNANSWERED, DuckDbSql

# In Python's list, but local settings of a machine, or not in the list of DuckDB.
_NOT_A_PLACE = re.compile(r"Factory|localtime|posixrules|posix/.*|right/.*")
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = "[T ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
_ZONE = " ?(Z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)"
_UTC = ("UTC", "Etc/UTC")
# The letters of a pattern, and how DuckDB's strptime writes them; it reads one or two digits, and any case.
_LETTERS = {
    "yyyy": "%Y", "yy": "%y", "M": "%m", "MM": "%m", "MMM": "%b", "MMMM": "%B", "d": "%d", "dd": "%d", "H": "%H",
    "HH": "%H", "h": "%I", "hh": "%I", "m": "%M", "mm": "%M", "s": "%S", "ss": "%S", "a": "%p", "E": "%a", "EEE": "%a",
    "EEEE": "%A", **{"S" * count: "%f" for count in range(1, 10)}, "X": "%z", "XX": "%z", "XXX": "%z", "Z": "%z",
}  # fmt: skip
_PART_OF_PATTERN = re.compile(r"'(?P<text>(?:[^']|'')*)'|(?P<letters>([A-Za-z])\3*)|(?P<sign>[^A-Za-z'])")
_DIGITS = re.compile(r"[MdHms]*(yyyy|yy)(?:MM|dd|HH|mm|ss|S{1,6})*")


def checked_zone(name: str) -> str:
    """The name if both Python and DuckDB know this time zone. Raises ValueError otherwise.

    UNANSWERED is returned as well: a dataset refuses it together with its other open questions.
    """
    if name == UNANSWERED:
        return name
    if name not in _known_zones() or _NOT_A_PLACE.fullmatch(name):
        raise ValueError(
            f"the time zone {name!r} is not known: use a name such as Asia/Shanghai, or Etc/GMT-8 for a fixed 8 hours "
            "ahead of UTC"
        )
    return name


@cache
def _known_zones() -> set[str]:
    return available_timezones()


def milliseconds(column: DuckDbSql) -> DuckDbSql:
    """Milliseconds since 1970 UTC, a number or text."""
    return f"try_cast({column} AS bigint)"


def seconds(column: DuckDbSql) -> DuckDbSql:
    """Seconds since 1970 UTC, a number or text, with fractions."""
    return f"try_cast(try_cast({column} AS decimal(28,9)) * 1000 AS bigint)"


def microseconds(column: DuckDbSql) -> DuckDbSql:
    """Microseconds since 1970 UTC, a number or text."""
    return f"(try_cast({column} AS bigint) // 1000)"


def iso_time(column: DuckDbSql, zone: str | None = None) -> DuckDbSql:
    """A text such as 2024-03-31T10:00:00.250+02:00 or `2024-03-31 10:00 UTC`: the zone is part of the text.

    zone: the zone of texts without one, as 2024-03-31 10:00:00 or 2024-03-31. Without `zone` such a text is NULL.
    """
    text = f"replace(trim({column}), ',', '.')"
    zoned = f"replace(replace({text}, ' +', '+'), ' -', '-')"  # DuckDB reads no blank before an offset
    cases = (
        f"WHEN regexp_full_match(trim({column}), '{_DATE}{_CLOCK}{_ZONE}') "
        f"THEN {_ms(f'try_cast({zoned} AS timestamptz)')}"
    )
    if zone is not None:
        cases += f" WHEN regexp_full_match(trim({column}), '{_DATE}({_CLOCK})?') THEN {_utc_ms(text, zone)}"
    return f"CASE {cases} END"


def digits_time(column: DuckDbSql, pattern: str, zone: str) -> DuckDbSql:
    """Compact digits, a number or text: digits_time("log.hour", "yyyyMMddHH", "UTC") reads 2014102119.

    pattern: y year (yyyy, or yy of this century), M month, d day, H hour from 0 to 23, m minute, s second, S its
    decimals. A value with another number of digits is NULL: read a column with leading zeros as text.
    """
    fields = {letter: (pattern.find(letter) + 1, pattern.count(letter)) for letter in "yMdHmsS"}
    is_known = all(letter * count in pattern for letter, (_, count) in fields.items())
    if not is_known or not _DIGITS.fullmatch(pattern):
        raise ValueError(f"the pattern {pattern!r} of a time: use yyyy or yy, MM, dd, HH, mm, ss and SSS alone")
    digits = f"trim(cast({column} AS varchar))"
    parts = {
        letter: f"substr({digits}, {start}, {count})" if count else ("'01'" if letter in "Md" else "'00'")
        for letter, (start, count) in fields.items()
    }
    century = "'20', " if fields["y"][1] == 2 else ""
    text = (
        f"concat({century}{parts['y']}, '-', {parts['M']}, '-', {parts['d']}, ' ', {parts['H']}, ':', {parts['m']}, "
        f"':', {parts['s']}, '.', {parts['S']})"
    )
    return f"CASE WHEN regexp_full_match({digits}, '[0-9]{{{len(pattern)}}}') THEN {_utc_ms(text, zone)} END"


def pattern_time(column: DuckDbSql, pattern: str, zone: str | None = None) -> DuckDbSql:
    """A text in any other notation: pattern_time("log.sent", "d.M.yyyy H:mm", "Europe/Berlin") reads 31.3.2024 9:05.

    pattern: y year (yyyy or yy), M month (MMM its name), d day, H hour, h hour from 1 to 12 with a for AM or PM, m
    minute, s second, S its decimals, E weekday, X offset; other text in quotes, as 'T'. One letter or two read one or
    two digits. zone: None if the pattern has an offset. Raises ValueError for another letter.
    """
    notation = _strptime_notation(pattern)
    if zone is None:
        # DuckDB reads an offset in digits alone.
        text = f"regexp_replace(trim({column}), '(Z|UTC|GMT)$', '+0000')"
        return _ms(f"try_strptime({text}, '{notation}')")
    return _ms(f"timezone('{checked_zone(zone)}', try_strptime(trim({column}), '{notation}'))")


def hour_of(time_ms: DuckDbSql, zone: str) -> DuckDbSql:
    """The hour, 0 to 23, on the clocks of the zone. time_ms: an expression as the functions above return."""
    return f"hour({_on_the_clock(time_ms, zone)})"


def weekday_of(time_ms: DuckDbSql, zone: str) -> DuckDbSql:
    """The day of the week in the zone, Monday 0. time_ms: an expression as the functions above return."""
    return f"(isodow({_on_the_clock(time_ms, zone)}) - 1)"


def day_of(time_ms: DuckDbSql, zone: str) -> DuckDbSql:
    """The calendar day in the zone, as 2024-03-31. time_ms: an expression as the functions above return."""
    return f"strftime({_on_the_clock(time_ms, zone)}, '%Y-%m-%d')"


def _strptime_notation(pattern: str) -> str:
    """The pattern as DuckDB's strptime writes it, as the inside of an SQL text."""
    parts, end = [], 0
    for match in _PART_OF_PATTERN.finditer(pattern):
        letters = match["letters"]
        if match.start() != end or (letters and letters not in _LETTERS):
            break
        end = match.end()
        plain_text = match["sign"] or ((match["text"] or "'").replace("''", "'"))
        parts.append(_LETTERS[letters] if letters else plain_text.replace("%", "%%").replace("'", "''"))
    if end != len(pattern):
        raise ValueError(f"the pattern {pattern!r} of a time cannot be read from {pattern[end:]!r} on")
    return "".join(parts)


def _ms(time: DuckDbSql) -> DuckDbSql:
    """Whole milliseconds of a time stamp. DuckDB's epoch_ms would round them."""
    return f"(epoch_us({time}) // 1000)"


def _utc_ms(local_time: DuckDbSql, zone: str) -> DuckDbSql:
    """Milliseconds of a text without a zone."""
    return _ms(f"timezone('{checked_zone(zone)}', try_cast({local_time} AS timestamp))")


def _on_the_clock(time_ms: DuckDbSql, zone: str) -> DuckDbSql:
    if zone in _UTC:
        return f"make_timestamp(({time_ms}) * 1000)"
    return f"timezone('{checked_zone(zone)}', make_timestamptz(({time_ms}) * 1000))"

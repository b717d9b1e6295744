"""Spark SQL for times of a raw log: milliseconds since 1970 UTC, the form that a contract needs.

Each function takes an expression over a raw column, such as "log.timestamp", and returns an expression that is NULL if
the time cannot be read. A time without a zone (local time) needs the argument `zone`, such as "Asia/Shanghai": without
it the day of an exposure, and the order of a conversion and its exposure, would shift by hours.
"""

import re
from functools import cache
from zoneinfo import available_timezones

from schemas.contract import UNANSWERED, SparkSql

# In Python's list, but local settings of a machine or unknown to Java, which Spark runs on.
_NOT_A_PLACE = re.compile(r"Factory|localtime|posixrules|posix/.*|right/.*")
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = "[T ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
_ZONE = " ?([zZ]|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)"
_DIGITS = re.compile(r"[MdHms]*(yyyy|yy)(?:MM|dd|HH|mm|ss|S{1,6})*")


def checked_zone(name: str) -> str:
    """The name if both Python and Spark know this time zone. Raises ValueError otherwise.

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


def milliseconds(column: SparkSql) -> SparkSql:
    """Milliseconds since 1970 UTC, a number or text."""
    return f"try_cast({column} AS bigint)"


def seconds(column: SparkSql) -> SparkSql:
    """Seconds since 1970 UTC, a number or text, with fractions."""
    return f"try_cast(round(try_multiply(try_cast({column} AS decimal(28,9)), 1000), 0) AS bigint)"


def microseconds(column: SparkSql) -> SparkSql:
    """Microseconds since 1970 UTC, a number or text."""
    return f"try_cast({column} AS bigint) div 1000L"


def iso_time(column: SparkSql, zone: str | None = None) -> SparkSql:
    """A text such as 2024-03-31T10:00:00.250+02:00 or `2024-03-31 10:00 UTC`: the zone is part of the text.

    zone: the zone of texts without one, as 2024-03-31 10:00:00. Without `zone` such a text is NULL.
    """
    # Spark reads no time without seconds.
    minutes = f"^({_DATE}[T ][0-9]{{1,2}}:[0-9]{{2}})($|[^:])"
    text = f"regexp_replace(replace(trim({column}), ',', '.'), '{minutes}', '$1:00$2')"
    cases = f"WHEN trim({column}) RLIKE '^{_DATE}{_CLOCK}{_ZONE}$' THEN unix_millis(try_cast({text} AS timestamp))"
    if zone is not None:
        cases += f" WHEN trim({column}) RLIKE '^{_DATE}{_CLOCK}$' THEN {_utc_ms(text, zone)}"
        midnight = f"concat(trim({column}), ' 00:00:00')"
        cases += f" WHEN trim({column}) RLIKE '^{_DATE}$' THEN {_utc_ms(midnight, zone)}"
    return f"CASE {cases} END"


def digits_time(column: SparkSql, pattern: str, zone: str) -> SparkSql:
    """Compact digits, a number or text: digits_time("log.hour", "yyyyMMddHH", "UTC") reads 2014102119.

    pattern: y year (yyyy, or yy of this century), M month, d day, H hour from 0 to 23, m minute, s second, S its
    decimals. A value with another number of digits is NULL: read a column with leading zeros as text.
    """
    fields = {letter: (pattern.find(letter) + 1, pattern.count(letter)) for letter in "yMdHmsS"}
    is_known = all(letter * count in pattern for letter, (_, count) in fields.items())
    if not is_known or not _DIGITS.fullmatch(pattern):
        raise ValueError(f"the pattern {pattern!r} of a time: use yyyy or yy, MM, dd, HH, mm, ss and SSS alone")
    digits = f"trim(cast({column} AS string))"
    parts = {
        letter: f"substr({digits}, {start}, {count})" if count else ("'01'" if letter in "Md" else "'00'")
        for letter, (start, count) in fields.items()
    }
    century = "'20', " if fields["y"][1] == 2 else ""
    text = (
        f"concat({century}{parts['y']}, '-', {parts['M']}, '-', {parts['d']}, ' ', {parts['H']}, ':', {parts['m']}, "
        f"':', {parts['s']}, '.', {parts['S']})"
    )
    return f"CASE WHEN {digits} RLIKE '^[0-9]{{{len(pattern)}}}$' THEN {_utc_ms(text, zone)} END"


def pattern_time(column: SparkSql, pattern: str, zone: str | None = None) -> SparkSql:
    """A text in any other notation: pattern_time("log.sent", "d.M.yyyy H:mm", "Europe/Berlin") reads 31.3.2024 9:05.

    pattern: the letters of Spark's datetime patterns; a single letter reads one or two digits. zone: None if the
    pattern has the zone's letters, such as XX.
    """
    quoted = pattern.replace("\\", "\\\\").replace("'", "\\'")
    if zone is None:
        return f"unix_millis(try_to_timestamp(trim({column}), '{quoted}'))"
    as_utc = f"try_to_timestamp(concat(trim({column}), ' Z'), '{quoted} X')"
    return f"unix_millis(to_utc_timestamp({as_utc}, '{checked_zone(zone)}'))"


def hour_of(time_ms: SparkSql, zone: str) -> SparkSql:
    """The hour, 0 to 23, on the clocks of the zone. time_ms: an expression as the functions above return."""
    return f"hour({_on_the_clock(time_ms, zone)})"


def weekday_of(time_ms: SparkSql, zone: str) -> SparkSql:
    """The day of the week in the zone, Monday 0. time_ms: an expression as the functions above return."""
    return f"weekday({_on_the_clock(time_ms, zone)})"


def _utc_ms(local_time: SparkSql, zone: str) -> SparkSql:
    """Milliseconds of a text without a zone: read as UTC and then moved, so the session's zone plays no part."""
    as_utc = f"try_cast(concat({local_time}, 'Z') AS timestamp)"
    return f"unix_millis(to_utc_timestamp({as_utc}, '{checked_zone(zone)}'))"


def _on_the_clock(time_ms: SparkSql, zone: str) -> SparkSql:
    return f"from_utc_timestamp(timestamp_millis({time_ms}), '{checked_zone(zone)}')"

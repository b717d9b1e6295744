"""Which days a log has, from the number of usable rows of each day.

Days that are separated by a long gap (Quality.longest_gap_days) are not one log: one stray time stamp would otherwise
add years of empty days. The log is the part that the lake has days of, or else the part with the most rows.

In this part a day has come once it has enough rows for its usual size, or once a later day has come. The usual size is
the median of the same weekday in the four weeks before, or else of the latest days with rows. The first day of a log
has no usual size. With fewer rows, the audit would stop the day as a broken delivery (Quality.lost_rows). Days that are
published, or excused by the contract, have come as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from statistics import median

from schemas.days import day_before, day_plus
from schemas.quality import Quality

_WEEKS = 4
_FEWEST_SAME_WEEKDAYS = 3


@dataclass(frozen=True)
class LogCalendar:
    """rows: the number of usable rows of each day that has any. published: the days whose exposures are in the lake.

    Rows whose time cannot be read are not counted.
    """

    rows: Mapping[str, int]
    quality: Quality = field(default=Quality())
    published: frozenset[str] = frozenset()

    @cached_property
    def span(self) -> tuple[str, str] | None:
        """The first and the last day of the log with a row, whether it has come or not; None without usable rows."""
        days = self._days
        return (days[0], days[-1]) if days else None

    @cached_property
    def log_days(self) -> tuple[str, str] | None:
        """The first and the last day that have come; None without usable rows.

        A few rows before the first full day are left out if days without rows separate them from it.
        """
        if not self._days:
            return None
        named = [day for day in self._days if day in self.published or day in self.quality.excused]
        last_full_day = next(day for day in reversed(self._days) if self._is_enough(day, self.usual_rows(day)))
        first = min([self._first_full_day(), *named])
        return first, max([last_full_day, first, *named])

    def days(self, *, few_rows: bool = False) -> tuple[str, str]:
        """The first and the last day of a log with usable rows. few_rows: count all days of the span as come.

        Raises ValueError if the log has no usable row; entry points refuse such a log before.
        """
        days = self.span if few_rows else self.log_days
        if days is None:
            raise ValueError("a log without usable rows has no days")
        return days

    def has_come(self, day: str) -> bool:
        """Whether the log is complete up to this day. A day without rows between two others is valid and empty."""
        in_log = self.log_days is not None and self.log_days[0] <= day <= self.log_days[1]
        return in_log or day in self.published

    def usual_rows(self, day: str) -> float | None:
        """The usual number of rows of a day; None if no earlier day of the log has rows."""
        earlier = [d for d in self._days if d < day]
        same_weekday = [self.rows[d] for d in (day_plus(day, -7 * k) for k in range(1, _WEEKS + 1)) if d in earlier]
        if len(same_weekday) >= _FEWEST_SAME_WEEKDAYS:
            return median(same_weekday)
        return self._median(earlier[-self.quality.trailing_days :])

    def beyond_gap(self) -> dict[str, int]:
        """The usable rows of the days that a long gap separates from the log."""
        return {day: rows for day, rows in sorted(self.rows.items()) if rows and day not in self._days}

    @cached_property
    def _days(self) -> list[str]:
        """The days of the log with rows, oldest first."""
        parts: list[list[str]] = []
        for day in sorted(day for day, rows in self.rows.items() if rows):
            if parts and _empty_days(parts[-1][-1], day) <= self.quality.longest_gap_days:
                parts[-1].append(day)
            else:
                parts.append([day])
        in_lake = [part for part in parts if self.published & {*part}]
        return max(in_lake or parts, key=self._rows_of, default=[])

    def _rows_of(self, days: Sequence[str]) -> int:
        return sum(self.rows[day] for day in days)

    def _first_full_day(self) -> str:
        days = self._days
        for k, day in enumerate(days):
            usual = self._median(days[k + 1 : k + 1 + self.quality.trailing_days])
            if self._is_enough(day, usual):
                break
        while k and days[k - 1] == day_before(days[k]):
            k -= 1
        return days[k]

    def _is_enough(self, day: str, usual: float | None) -> bool:
        return usual is None or self.rows[day] >= self.quality.lost_rows.value * usual

    def _median(self, days: Sequence[str]) -> float | None:
        return median(self.rows[day] for day in days) if days else None


def _empty_days(earlier: str, later: str) -> int:
    return (date.fromisoformat(later) - date.fromisoformat(earlier)).days - 1

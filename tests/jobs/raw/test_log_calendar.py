"""Which days of a log have come, and which rows are outside it: tables of cases, without Spark."""

from collections.abc import Mapping

import pytest

from jobs.raw.log_calendar import LogCalendar
from schemas.days import day_plus
from schemas.quality import Quality

MONDAY = "2024-04-01"


def days_from(first: str, *rows: int) -> dict[str, int]:
    return {day_plus(first, k): count for k, count in enumerate(rows) if count}


def log_days(rows: Mapping[str, int], **settings: object) -> tuple[str, str]:
    return LogCalendar(rows, Quality(**settings)).days()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "days"),
    [
        ([1], 1),  # the first day has no usual size
        ([1000, 1], 1),
        ([1000, 100], 2),  # a tenth is enough
        ([1000, 99], 1),
        ([1000, 1000, 1000, 20], 3),  # a trickle of tomorrow's rows
        ([1000, 1000, 1000, 0, 0, 20], 3),
        ([1000, 1000, 20, 1000], 4),  # a quiet day is complete once a later day has come
        ([1000, 0, 0, 1000], 4),  # as an empty day is
        ([1000, *[50] * 7], 1 + 7),  # a log that has become small has a new usual size
        ([2, 1, 3, 1], 4),  # a small log
    ],
)
def test_the_last_day_is_the_last_one_with_enough_rows(rows, days):
    assert log_days(days_from(MONDAY, *rows)) == (MONDAY, day_plus(MONDAY, days - 1))


def test_a_weekday_is_compared_with_the_same_weekdays():
    """Sundays have 5 % of the other days' rows: from the fourth on, a Sunday is as large as Sundays are."""
    weeks = [1000, 1000, 1000, 1000, 1000, 1000, 50]
    for count in (1, 2, 3):
        assert log_days(days_from(MONDAY, *weeks * count))[1] == day_plus(MONDAY, 7 * count - 2)
    assert log_days(days_from(MONDAY, *weeks * 4))[1] == day_plus(MONDAY, 27)
    assert log_days(days_from(MONDAY, *weeks * 3, *weeks[:6], 4))[1] == day_plus(MONDAY, 26)


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        ([1, 0, 0, 1000, 1000], 3),  # a stray stamp three days before the log
        ([1, 1000, 1000], 0),  # the evening before the first full day
        ([1, 0, 1, 1000, 1000], 2),
        ([500, 0, 1000, 1000], 0),
    ],
)
def test_a_few_rows_long_before_the_first_full_day_are_not_the_first_day(rows, first):
    calendar = LogCalendar(days_from(MONDAY, *rows))
    assert calendar.days()[0] == day_plus(MONDAY, first)
    assert calendar.span[0] == MONDAY  # nevertheless a range may name the day


@pytest.mark.parametrize("stray", ["1970-01-01", "2024-02-28", "2024-05-05", "2026-04-22"])
def test_a_stray_stamp_does_not_stretch_the_log(stray):
    calendar = LogCalendar({**days_from(MONDAY, 60, 61), stray: 1})
    assert calendar.span == calendar.days(few_rows=True) == calendar.days() == (MONDAY, "2024-04-02")
    assert not calendar.has_come(stray)
    assert calendar.beyond_gap() == {stray: 1}


def test_the_contract_says_how_long_a_gap_may_be():
    rows = {**days_from(MONDAY, 5, 5), **days_from("2024-05-04", 5)}  # 31 days without a row
    assert log_days(rows) == (MONDAY, "2024-05-04")
    assert log_days(rows, longest_gap_days=30) == (MONDAY, "2024-04-02")
    assert LogCalendar(rows).beyond_gap() == {}


def test_the_part_that_the_lake_has_stays_the_log_whatever_comes_after_a_gap():
    rows = {**days_from("2022-04-01", 5, 5), **days_from(MONDAY, 500, 500)}
    assert log_days(rows) == (MONDAY, "2024-04-02")
    calendar = LogCalendar(rows, published=frozenset({"2022-04-01"}))
    assert calendar.days() == ("2022-04-01", "2022-04-02")


@pytest.mark.parametrize(
    "named", [{"published": frozenset({"2024-04-04"})}, {"quality": Quality(excused={"2024-04-04": "a holiday"})}]
)
def test_a_quiet_day_that_is_published_or_excused_has_come(named):
    rows = days_from(MONDAY, 1000, 1000, 1000, 3)
    assert not LogCalendar(rows).has_come("2024-04-04")
    assert LogCalendar(rows, **named).days() == (MONDAY, "2024-04-04")


def test_a_log_without_a_usable_row_has_no_days():
    calendar = LogCalendar({})
    assert (calendar.span, calendar.log_days, calendar.has_come(MONDAY)) == (None, None, False)
    with pytest.raises(ValueError, match="no days"):
        calendar.days()

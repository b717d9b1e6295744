"""The notation of times: written and recognised again, for any times."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.draft.times import DIGITS, EPOCH, FROM_START, ISO, PATTERN, time_notation
from jobs.draft.values import column_sample

# Days above 12 occur, so that day and month cannot be exchanged.
LATE_DAY = datetime(2019, 11, 24, 13, 45, 31, 250_000, tzinfo=UTC)
TIMES = st.lists(
    st.datetimes(datetime(2005, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC)), min_size=20, max_size=40
).map(lambda times: [LATE_DAY, *times])
TOKYO = timezone(timedelta(hours=9))


def notation_of(texts, name="time"):
    return time_notation(column_sample(name, texts))


@settings(max_examples=30)
@given(times=TIMES, unit=st.sampled_from([("s", 1), ("ms", 1_000), ("us", 1_000_000)]))
def test_the_unit_of_an_epoch(times, unit):
    name, factor = unit
    notation = notation_of([str(int(time.timestamp() * factor)) for time in times])
    assert (notation.kind, notation.unit, notation.is_naive) == (EPOCH, name, False)
    assert abs(notation.last - max(times)) < timedelta(seconds=1)


@settings(max_examples=30)
@given(
    times=TIMES,
    pattern=st.sampled_from([
        ("%Y%m%d%H%M%S", "yyyyMMddHHmmss"), ("%Y%m%d%H%M", "yyyyMMddHHmm"), ("%Y%m%d%H", "yyyyMMddHH"),
        ("%Y%m%d", "yyyyMMdd"), ("%y%m%d%H", "yyMMddHH"), ("%y%m%d%H%M%S", "yyMMddHHmmss"),
    ]),
)  # fmt: skip
def test_the_order_of_digits(times, pattern):
    python_pattern, spark_pattern = pattern
    notation = notation_of([time.strftime(python_pattern) for time in times])
    assert (notation.kind, notation.pattern, notation.is_naive) == (DIGITS, spark_pattern, True)


def test_seventeen_digits_have_milliseconds():
    notation = notation_of(["20130612140341656", "20130613143342844"])
    assert (notation.kind, notation.pattern) == (DIGITS, "yyyyMMddHHmmssSSS")
    assert notation.first == datetime(2013, 6, 12, 14, 3, 41, 656_000, tzinfo=UTC)


@settings(max_examples=30)
@given(
    times=TIMES,
    separator=st.sampled_from(["T", " "]),
    timespec=st.sampled_from(["minutes", "seconds", "milliseconds", "microseconds"]),
    zone=st.sampled_from([None, UTC, TOKYO]),
)
def test_iso_times_with_and_without_a_zone(times, separator, timespec, zone):
    local_times = [time.astimezone(zone) if zone else time.replace(tzinfo=None) for time in times]
    notation = notation_of([time.isoformat(separator, timespec) for time in local_times])
    assert notation.kind == ISO
    assert notation.is_naive is (zone is None)
    assert notation.zones == {None: (), UTC: ("+00:00",), TOKYO: ("+09:00",)}[zone]
    assert notation.resolution_s == {"minutes": 60, "seconds": 1}.get(timespec, 0.001)


@pytest.mark.parametrize(
    ("texts", "zones"),
    [
        (["2019-10-01 00:00:00 UTC", "2019-10-02 00:00:00 UTC"], ("UTC",)),
        (["2019-10-01T00:00:00Z"], ("UTC",)),
        (["2019-10-01T00:00:00+0200", "2019-10-01T00:00:00+01:00"], ("+01:00", "+0200")),
        (["2019-10-01T00:00:00Z", "2019-10-01T00:00:00"], ()),  # a part of them is naive
        (["2019-10-01"], ()),
    ],
)
def test_the_zones_that_iso_times_name(texts, zones):
    assert notation_of(texts).zones == zones


@pytest.mark.parametrize(
    ("texts", "pattern", "is_ambiguous"),
    [
        (["31.03.2024 09:00", "01.04.2024 10:30"], "d.M.yyyy H:mm", False),
        (["3/31/2024 09:00:00", "4/1/2024 10:30:00"], "M/d/yyyy H:mm:ss", False),
        (["31/3/2024 09:00:00", "4/1/2024 10:30:00"], "d/M/yyyy H:mm:ss", False),
        (["03/04/2024 09:00:00", "04/05/2024 10:30:00"], "d/M/yyyy H:mm:ss", True),
        (["04/22/2022 03:05 PM", "04/22/2022 11:05 AM"], "M/d/yyyy h:mm a", False),
        (["31/3/2024", "4/1/2024"], "d/M/yyyy", False),
        (["03/04/2024", "04/05/2024"], "d/M/yyyy", True),
        (["10/Oct/2023:13:55:36 -0700"], "d/MMM/yyyy:H:mm:ss XX", False),
    ],
)
def test_other_notations(texts, pattern, is_ambiguous):
    notation = notation_of(texts)
    assert (notation.kind, notation.pattern, notation.is_ambiguous) == (PATTERN, pattern, is_ambiguous)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("price", ["12.5", "7.25", "9.0"]),
        ("user", ["ann", "bob"]),
        ("user_id", ["541312140", "554748717"]),  # seconds of 1987
        ("hourmin", ["0", "1600", "900"]),
        ("duration_ms", ["99639", "157090"]),
        ("empty", ["", ""]),
        ("cat", ["30763035", "28928366"]),  # eight digits, and not a date
    ],
)
def test_what_is_no_time(name, texts):
    assert notation_of(texts, name) is None


def test_growing_seconds_from_an_unknown_start():
    assert notation_of(["0", "5", "5", "90"], "timestamp").kind == FROM_START
    assert notation_of(["0", "5", "4", "90"], "timestamp") is None
    assert notation_of(["0", "5", "5", "90"], "price") is None


def test_ten_digits_are_seconds_unless_all_are_dates():
    assert notation_of(["1494000436", "1494001980"]).kind == EPOCH
    assert notation_of(["2014102100", "2014102113"]).pattern == "yyyyMMddHH"

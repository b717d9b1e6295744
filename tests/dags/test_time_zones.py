"""The daily schedule has a run for every day, in every time zone, also where clocks change at midnight."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from airflow.timetables.base import TimeRestriction
from airflow.timetables.trigger import CronPartitionTimetable

from dags import daily
from schemas.dataset import get_dataset
from schemas.days import days_between, first_hour

FIRST, DAYS = datetime(2025, 1, 1, tzinfo=UTC), 3653
MIDNIGHT_ZONES = ("America/Santiago", "Africa/Cairo", "Asia/Beirut", "America/Havana", "America/Asuncion")


def changes(zone: ZoneInfo) -> Iterator[datetime]:
    """The moments in ten years at which the clocks of a zone change."""
    offset = FIRST.astimezone(zone).utcoffset()
    for week in range(0, DAYS, 7):
        later = FIRST + timedelta(days=week + 7)
        if later.astimezone(zone).utcoffset() != offset:
            earlier = FIRST + timedelta(days=week)
            while later - earlier > timedelta(minutes=1):
                middle = earlier + (later - earlier) / 2
                earlier, later = (middle, later) if middle.astimezone(zone).utcoffset() == offset else (earlier, middle)
            yield later.replace(second=0, microsecond=0)
            offset = (FIRST + timedelta(days=week + 7)).astimezone(zone).utcoffset()


def kinds_of_clock() -> dict[tuple, str]:
    """All zones of the tz database, one for each kind: the hour of its runs, and the local times of its changes."""
    zones = {}
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        minute = timedelta(minutes=1)
        local = ((change - minute).astimezone(zone).strftime("%H:%M") + change.astimezone(zone).strftime("-%H:%M")
                 for change in changes(zone))  # fmt: skip
        zones.setdefault((first_hour(name), *sorted(set(local))), name)
    return zones


def scheduled_days(hour: int, zone: str, first: datetime, last: datetime) -> list[str]:
    """The keys of the runs that Airflow's scheduler makes from the first moment to the last."""
    timetable = CronPartitionTimetable(f"0 {hour} * * *", timezone=zone, run_offset=-1, key_format="%Y-%m-%d")
    info, keys = None, []
    while True:
        restriction = TimeRestriction(earliest=first, latest=last, catchup=True)
        info = timetable.next_dagrun_info_v2(last_dagrun_info=info, restriction=restriction)
        if info is None:
            return keys
        keys.append(info.partition_key)


@pytest.mark.slow
def test_no_zone_skips_a_day_when_its_clocks_change():
    """Ten years of every zone: the schedule depends on the hour of the runs and on the hours of the changes alone."""
    kinds = kinds_of_clock()
    assert len(kinds) > 10
    assert {first_hour(name) for name in MIDNIGHT_ZONES} == {1}
    assert {first_hour(name) for name in ("UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York")} == {0}
    checked = 0
    for (hour, *_), name in kinds.items():
        for change in changes(ZoneInfo(name)):
            keys = scheduled_days(hour, name, change - timedelta(days=2), change + timedelta(days=2))
            assert keys == days_between(keys[0], keys[-1]), (name, keys)
            assert len(keys) >= 3
            checked += 1
    assert checked > 100


def test_a_midnight_that_does_not_exist_would_skip_a_day():
    """The fault that first_hour avoids, so that the test above can fail."""
    keys = scheduled_days(0, "Africa/Cairo", datetime(2025, 4, 23, tzinfo=UTC), datetime(2025, 4, 28, tzinfo=UTC))
    assert len(set(keys)) < len(keys)


@pytest.mark.parametrize(("zone", "hour"), [("Europe/Berlin", 0), ("America/Santiago", 1)])
def test_the_daily_dag_starts_in_the_first_hour_of_its_zone(monkeypatch, zone, hour):
    contract = replace(get_dataset("criteo"), timezone=zone)
    monkeypatch.setattr(daily, "get_dataset", lambda _: contract)
    assert daily._after_midnight("criteo").expression == f"0 {hour} * * *"

"""The history of items of a range of days is that of its days one by one, and reads each day once."""

import pytest
from bucket_lake import BucketLake
from random_exposures import random_exposures

from jobs.history import item_history
from lakehouse.reading import read_tables
from schemas.dataset import get_dataset
from schemas.tables import EXPOSURES, ITEM_HISTORY

DAYS = 5


@pytest.fixture
def lake(tmp_path):
    dataset = get_dataset("criteo")
    return BucketLake(tmp_path, dataset, random_exposures(dataset, users=8, rows=150, days=DAYS, seed=1))


@pytest.fixture
def read_days(monkeypatch) -> list[str]:
    """The days of exposures that were read."""
    days: list[str] = []

    def recorded(partitions, *arguments):
        days.extend(partition.day for partition in partitions)
        return read_tables(partitions, *arguments)

    monkeypatch.setattr(item_history, "read_tables", recorded)
    return days


def publish(lake: BucketLake, *days: str) -> None:
    inputs = lake.lake.history_inputs(EXPOSURES, lake.dataset, days)
    item_history.publish_item_history(lake.lake, lake.dataset, days, inputs, None)


def manifests(lake: BucketLake) -> dict:
    return lake.lake.manifests(lake.dataset, [ITEM_HISTORY])[ITEM_HISTORY]


def test_a_range_is_its_days_one_by_one(lake, read_days):
    for day in lake.days:
        publish(lake, day)
    one_by_one = manifests(lake)
    publish(lake, *lake.days)
    assert read_days == lake.days * 2  # each day once, whatever the length of the history
    assert manifests(lake) == one_by_one
    assert len({manifest.fingerprint for manifest in one_by_one.values()}) == DAYS


def test_fresh_days_between_stale_ones_are_not_read_again(lake, read_days):
    publish(lake, *lake.days)
    at_once = manifests(lake)
    read_days.clear()
    publish(lake, lake.days[1], lake.days[4])
    assert read_days == [lake.days[1], lake.days[4]]
    assert manifests(lake) == at_once


def test_days_without_a_fresh_history_before_them_are_read_from_the_first_one_on(lake, read_days):
    publish(lake, lake.days[2], lake.days[4])
    assert read_days == lake.days
    expected = manifests(lake)
    publish(lake, *lake.days)
    assert {day: manifests(lake)[day] for day in expected} == expected

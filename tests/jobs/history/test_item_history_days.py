"""The history of items of a range of days is that of its days one by one, and counts each day once."""

import pytest
from bucket_lake import BucketLake
from random_exposures import random_exposures

from features.item_history import history_columns
from jobs.history.bucket_exposures import facts_of_exposures
from jobs.history.item_history import CountFiles, planned_folds, publish_item_history
from schemas.dataset import dataset_names, get_dataset
from schemas.tables import EXPOSURES, ITEM_HISTORY

DAYS = 5


@pytest.fixture
def lake(tmp_path):
    dataset = get_dataset("criteo")
    return BucketLake(tmp_path, dataset, random_exposures(dataset, users=8, rows=150, days=DAYS, seed=1))


def publish(lake: BucketLake, *days: str, built: tuple[str, ...] = ()) -> list[str]:
    """Publish the history of these days, and return the days that were counted for it.

    built: days whose steps the same task builds.
    """
    folds = planned_folds(lake.lake, lake.dataset, days, None)
    counted = [day for fold in folds for day in fold.new_days]
    results = lake.build(built, counted=counted)
    counts = [result for result in results if isinstance(result, CountFiles)]
    assert sorted(day for files in counts for day in files.days) == counted
    publish_item_history(
        lake.lake, lake.dataset, folds, counts,
        inputs=lake.lake.history_inputs(EXPOSURES, lake.dataset, days).__getitem__,
        replaces=lake.lake.present(ITEM_HISTORY, lake.dataset, days),
    )  # fmt: skip
    return counted


def manifests(lake: BucketLake) -> dict:
    return lake.lake.manifests(lake.dataset, [ITEM_HISTORY])[ITEM_HISTORY]


def test_a_range_is_its_days_one_by_one(lake):
    counted = [day for day in lake.days for day in publish(lake, day)]
    one_by_one = manifests(lake)
    assert publish(lake, *lake.days) == counted == lake.days  # each day once, whatever the length of the history
    assert manifests(lake) == one_by_one
    assert len({manifest.fingerprint for manifest in one_by_one.values()}) == DAYS


def test_fresh_days_between_stale_ones_are_not_read_again(lake):
    publish(lake, *lake.days)
    at_once = manifests(lake)
    assert publish(lake, lake.days[1], lake.days[4]) == [lake.days[1], lake.days[4]]
    assert manifests(lake) == at_once


def test_days_without_a_fresh_history_before_them_are_read_from_the_first_one_on(lake):
    assert publish(lake, lake.days[2], lake.days[4]) == lake.days
    expected = manifests(lake)
    publish(lake, *lake.days)
    assert {day: manifests(lake)[day] for day in expected} == expected


def test_the_counts_are_the_same_whether_or_not_the_task_builds_steps_of_the_days(lake):
    publish(lake, *lake.days)
    rebuilt = manifests(lake)
    lake.publish_journeys(lake.days[0])
    publish(lake, *lake.days, built=(lake.days[2],))
    assert manifests(lake) == rebuilt


@pytest.mark.parametrize("name", dataset_names())
def test_the_exposures_that_are_read_for_steps_have_all_that_is_counted(name):
    dataset = get_dataset(name)
    assert {*history_columns(dataset)} <= {*facts_of_exposures(dataset)}

"""Windows label each exposure once, and are the same whether their day is built alone or with others."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bucket_lake import BucketLake
from random_exposures import day, random_exposures, typed

from schemas.dataset import Dataset, get_dataset
from schemas.splits import split_of
from schemas.steps import profile_inputs
from schemas.tables import SEQUENCES, STEPS

DAYS = 4


def random_lake(folder: Path, dataset: Dataset, *, users: int, rows: int) -> BucketLake:
    frame = random_exposures(dataset, users=users, rows=rows, days=DAYS, seed=6)
    for column in profile_inputs(dataset):  # a person changes: each row has another value
        frame[column.name] = typed(np.arange(len(frame)), column.dtype)
    return BucketLake(folder, dataset, frame)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """The exposures by user and time, with their place in the journey."""
    ordered = frame.sort_values(["user_id", "exposed_at_ms", "exposure_id"], ignore_index=True)
    return ordered.assign(place=ordered.groupby("user_id").cumcount())


@pytest.mark.parametrize("name", ["kuairand", "criteo"])
@pytest.mark.parametrize("n", [5, 20])
def test_every_exposure_but_a_users_first_is_a_label_once(tmp_path, name, n):
    dataset = get_dataset(name)
    lake = random_lake(tmp_path, dataset, users=5, rows=110)
    windows = lake.read(lake.build(lake.days, window_steps=n), SEQUENCES).to_pandas()
    order = in_order(lake.frame)
    day_of = order.set_index(["user_id", "place"]).ds
    labels = []
    for window in windows.itertuples():
        places = range(window.first_step, window.last_step + 1)
        assert window.length == n == window.padding + len(places)
        assert window.padding == 0 or window.first_step == 0  # padding is on the left of a whole journey
        assert window.split == split_of(window.user_id)
        labelled = [(window.user_id, place) for place in range(window.first_label, window.last_step + 1)]
        assert labelled
        assert {day_of[label] for label in labelled} == {window.ds}
        assert window.first_label - window.first_step >= min(window.first_label, n / 2)
        labels += labelled
    assert sorted(labels) == sorted(day_of[day_of.index.get_level_values("place") > 0].index)
    numbers = windows.groupby(["user_id", "ds"]).window
    assert (windows.window == numbers.cumcount()).all()

    # As of the window's own day, whatever later days bring.
    profile = [c.name for c in profile_inputs(dataset)]
    last_of_day = order.groupby(["user_id", "ds"])[profile].last()
    profiles = windows.set_index(["user_id", "ds"])[profile]
    assert profiles.astype(object).equals(last_of_day.loc[profiles.index].astype(object))


@pytest.mark.parametrize("name", ["kuairand", "criteo"])
def test_a_step_has_its_place_in_the_journey(tmp_path, name):
    lake = random_lake(tmp_path, get_dataset(name), users=5, rows=110)
    steps = lake.read(lake.build(lake.days), STEPS)
    order = in_order(lake.frame).sort_values(["ds", "user_id", "place"])
    assert steps.column("exposure_id").to_pylist() == order.exposure_id.tolist()  # in the order of `exposures`
    assert steps.column("journey_position").to_pylist() == order.place.tolist()


@pytest.mark.parametrize("name", ["kuairand", "criteo"])
@pytest.mark.parametrize("journeys_day", [None, 0, 2])
def test_a_day_alone_has_the_files_of_a_day_in_a_range(tmp_path, name, journeys_day):
    lake = random_lake(tmp_path, get_dataset(name), users=5, rows=110)
    if journeys_day is not None:
        lake.publish_journeys(day(journeys_day))
    day_alone = lake.build([day(3)], journeys_day=None if journeys_day is None else day(journeys_day))
    assert {(table, date) for table, date, _ in day_alone} == {(STEPS, day(3)), (SEQUENCES, day(3))}
    assert sorted(day_alone) == sorted(file for file in lake.build(lake.days) if file.day == day(3))

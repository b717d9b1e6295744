"""A step knows exactly what was known strictly before it: against an oracle, and by shuffling the unknown."""

import numpy as np
import pandas as pd
import pytest
from naive_history import comparable, naive_inputs
from pyspark.sql import functions as F
from random_exposures import day, random_exposures, to_spark
from unknown_shuffled import with_the_unknown_shuffled

from features import visibility
from jobs.history import whole_users
from jobs.history.steps import EXPOSURE, KIND, steps_with_inputs
from schemas.contract import Known
from schemas.dataset import Dataset, get_dataset
from schemas.steps import input_columns

DATASETS = ["kuairand", "criteo"]
DAYS = 3


def steps_of(spark, frame: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Exposure and query steps as pandas, one row a step."""
    rows = to_spark(spark, frame, dataset)
    as_of = dataset.end_of_day_ms(day(DAYS - 1))
    steps = steps_with_inputs(rows, None, dataset, as_of)
    return pd.DataFrame([r.asDict() for r in steps.orderBy("user_id", "exposed_at_ms", "exposure_id").collect()])


def column(steps: pd.DataFrame, name: str) -> list:
    return [comparable(value) for value in steps[name]]


@pytest.mark.parametrize("name", DATASETS)
def test_inputs_equal_the_oracle(spark, name):
    dataset = get_dataset(name)
    frame = random_exposures(dataset, users=6, rows=90, days=DAYS, seed=1)
    steps = steps_of(spark, frame, dataset)
    assert len(steps) == len(frame) + frame.user_id.nunique()
    for user_id, user_steps in steps.groupby("user_id"):
        user = frame[frame.user_id == user_id]
        previous_ms = None
        for step in user_steps.to_dict("records"):
            expected = naive_inputs(user, dataset, step["exposed_at_ms"], previous_ms)
            actual = {key: comparable(step[key]) for key in expected}
            assert actual == {key: comparable(value) for key, value in expected.items()}, (
                user_id,
                step["exposed_at_ms"],
            )
            previous_ms = step["exposed_at_ms"]


# The planted leak: facts with the step's own time stamp count as known.
NOT_STRICTLY = "right"


def leaking_columns(spark, dataset: Dataset, seed: int) -> set[str]:
    """Input columns that change at a step, or before it, when only the unknown changes."""
    frame = random_exposures(dataset, users=25, rows=400, days=DAYS, seed=seed)
    rng = np.random.default_rng(seed)
    cuts = {u: int(rng.choice(times)) for u, times in frame.groupby("user_id").exposed_at_ms}
    before = steps_of(spark, frame, dataset)
    after = steps_of(spark, with_the_unknown_shuffled(frame, dataset, cuts, seed), dataset)
    seen = (before[KIND] == EXPOSURE) & (before.exposed_at_ms <= before.user_id.map(cuts))
    assert seen.sum() > 150
    assert (seen & (before.exposed_at_ms == before.user_id.map(cuts))).sum() > 25  # ties at the cut are in
    return {c.name for c in input_columns(dataset) if column(before[seen], c.name) != column(after[seen], c.name)}


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_input_changes_when_the_unknown_is_shuffled(spark, name, seed):
    assert leaking_columns(spark, get_dataset(name), seed) == set()


@pytest.mark.parametrize("name", DATASETS)
def test_equal_time_stamps_would_leak_if_the_frame_held_them(spark, name, monkeypatch):
    monkeypatch.setattr(visibility, "STRICTLY_BEFORE", NOT_STRICTLY)
    leaks = leaking_columns(spark, get_dataset(name), 1)
    assert {"seen_click", "new_click", "last_channel", "seen_by_channel", "new_by_channel", "since_click_s"} <= leaks


def test_conversions_would_leak_if_known_with_their_exposure(spark, monkeypatch):
    def known_at_once(exposures, dataset):
        return facts(exposures.withColumn("conversion_at_ms", F.col("exposed_at_ms")), dataset)

    facts = whole_users._exposure_facts
    monkeypatch.setattr(whole_users, "_exposure_facts", known_at_once)
    leaks = leaking_columns(spark, get_dataset("criteo"), 1)
    assert leaks == {"seen_conversion", "new_conversion", "since_conversion_s", "seen_by_channel", "new_by_channel"}


@pytest.mark.parametrize(
    ("name", "known"), [("play_time_ms", Known.AFTER), ("video_id", Known.WITH), ("tag", Known.WITH)]
)
def test_a_column_declared_before_though_known_later_is_caught(spark, name, known):
    """The present row's outcome among the inputs: the leak that a wrong contract would plant."""
    from dataclasses import replace

    dataset = get_dataset("kuairand")
    honest = {d.column.name: d.column.known for d in dataset.columns}
    wrong = replace(
        dataset,
        items=(),  # whose columns the contract's own check would refuse
        columns=tuple(
            replace(d, column=replace(d.column, known=Known.BEFORE)) if d.column.name == name else d
            for d in dataset.columns
        ),
    )
    frame = random_exposures(dataset, users=25, rows=400, days=DAYS, seed=3)
    cuts = {u: int(times.iloc[0]) for u, times in frame.groupby("user_id").exposed_at_ms}
    shuffled = with_the_unknown_shuffled(frame, dataset, cuts, 3)
    before, after = (steps_of(spark, f[frame.columns], wrong) for f in (frame, shuffled))
    assert honest[name] is known
    assert column(before, name) != column(after, name)

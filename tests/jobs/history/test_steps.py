"""A step knows exactly what was known strictly before it: against an oracle, and by shuffling the unknown."""

import numpy as np
import pandas as pd
import pytest
from naive_history import comparable, naive_inputs
from random_exposures import day, random_exposures
from unknown_shuffled import with_the_unknown_shuffled
from user_chunks import user_chunk

from features import visibility
from features.point_in_time import EXPOSURE, KIND, point_in_time_steps
from schemas.contract import Known
from schemas.dataset import Dataset, get_dataset
from schemas.steps import input_columns

DATASETS = ["kuairand", "criteo"]
DAYS = 3


def steps_of(frame: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Exposure and query steps as pandas, one row a step."""
    chunk = user_chunk(frame, dataset, dataset.end_of_day_ms(day(DAYS - 1)))
    steps = pd.DataFrame(point_in_time_steps(chunk, dataset, visibility.STRICTLY_BEFORE).to_pylist())
    return steps.sort_values(["user_id", "exposed_at_ms", "exposure_id"], ignore_index=True)


def column(steps: pd.DataFrame, name: str) -> list:
    return [comparable(value) for value in steps[name]]


@pytest.mark.slow
@pytest.mark.parametrize("name", DATASETS)
def test_inputs_equal_the_oracle(name):
    dataset = get_dataset(name)
    frame = random_exposures(dataset, users=6, rows=90, days=DAYS, seed=1)
    steps = steps_of(frame, dataset)
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


def leaking_columns(dataset: Dataset, seed: int, known_at_once: str | None = None) -> set[str]:
    """Input columns that change at a step, or before it, when only the unknown changes.

    known_at_once: a late gain's time, which is replaced by the time of the exposure: a planted leak.
    """
    frame = random_exposures(dataset, users=25, rows=400, days=DAYS, seed=seed)
    rng = np.random.default_rng(seed)
    cuts = {u: int(rng.choice(times)) for u, times in frame.groupby("user_id").exposed_at_ms}
    logs = [frame, with_the_unknown_shuffled(frame, dataset, cuts, seed)]
    if known_at_once:
        logs = [log.assign(**{known_at_once: log.exposed_at_ms}) for log in logs]
    before, after = (steps_of(log, dataset) for log in logs)
    seen = (before[KIND] == EXPOSURE) & (before.exposed_at_ms <= before.user_id.map(cuts))
    assert seen.sum() > 150
    assert (seen & (before.exposed_at_ms == before.user_id.map(cuts))).sum() > 25  # ties at the cut are in
    return {c.name for c in input_columns(dataset) if column(before[seen], c.name) != column(after[seen], c.name)}


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_input_changes_when_the_unknown_is_shuffled(name, seed):
    assert leaking_columns(get_dataset(name), seed) == set()


@pytest.mark.parametrize("name", DATASETS)
def test_equal_time_stamps_would_leak_if_the_frame_held_them(name, monkeypatch):
    monkeypatch.setattr(visibility, "STRICTLY_BEFORE", NOT_STRICTLY)
    leaks = leaking_columns(get_dataset(name), 1)
    assert {"seen_click", "new_click", "last_channel", "seen_by_channel", "new_by_channel", "since_click_s"} <= leaks


def test_conversions_would_leak_if_known_with_their_exposure():
    leaks = leaking_columns(get_dataset("criteo"), 1, known_at_once="conversion_at_ms")
    assert leaks == {"seen_conversion", "new_conversion", "since_conversion_s", "seen_by_channel", "new_by_channel"}


@pytest.mark.parametrize(
    ("name", "known"), [("play_time_ms", Known.AFTER), ("video_id", Known.WITH), ("tag", Known.WITH)]
)
def test_a_column_declared_before_though_known_later_is_caught(name, known):
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
    before, after = (steps_of(f[frame.columns], wrong) for f in (frame, shuffled))
    assert honest[name] is known
    assert column(before, name) != column(after, name)

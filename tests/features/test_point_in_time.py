"""A step knows exactly what was known strictly before it; without Spark, on many random logs."""

import numpy as np
import pandas as pd
import pytest
from naive_history import comparable, naive_inputs
from random_exposures import day, random_exposures
from unknown_shuffled import with_the_unknown_shuffled
from user_chunks import summaries_of, user_chunk

from features.point_in_time import EXPOSURE, KIND, QUERY, point_in_time_steps
from features.visibility import STRICTLY_BEFORE, Side
from schemas.dataset import Dataset, get_dataset
from schemas.errors import UserError
from schemas.steps import input_columns, outcome_columns

DATASETS = ["kuairand", "criteo"]
DAYS = 3


def steps_of(frame: pd.DataFrame, dataset: Dataset, side: Side = STRICTLY_BEFORE) -> pd.DataFrame:
    """A row for each step, in order."""
    chunk = user_chunk(frame, dataset, dataset.end_of_day_ms(day(DAYS - 1)))
    rows = point_in_time_steps(chunk, dataset, side).to_pylist()
    return pd.DataFrame(rows, dtype=object).sort_values(["user_id", "exposed_at_ms", "exposure_id"], ignore_index=True)


def column(steps: pd.DataFrame, name: str) -> list:
    return [comparable(value) for value in steps[name]]


@pytest.mark.slow
@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("seed", range(2))
def test_inputs_equal_the_oracle(name, seed):
    dataset = get_dataset(name)
    frame = random_exposures(dataset, users=6, rows=90, days=DAYS, seed=seed)
    steps = steps_of(frame, dataset)
    assert (steps[KIND] == EXPOSURE).sum() == len(frame)
    assert (steps[KIND] == QUERY).sum() == frame.user_id.nunique()
    for user_id, user_steps in steps.groupby("user_id"):
        user = frame[frame.user_id == user_id]
        previous_ms = None
        for step in user_steps.to_dict("records"):
            expected = naive_inputs(user, dataset, step["exposed_at_ms"], previous_ms)
            actual = {key: comparable(step[key]) for key in expected}
            assert actual == {key: comparable(value) for key, value in expected.items()}
            previous_ms = step["exposed_at_ms"]


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("seed", range(3))
def test_steps_that_go_on_from_a_summary_are_those_of_the_whole_history(name, seed):
    dataset = get_dataset(name)
    frame = random_exposures(dataset, users=6, rows=120, days=DAYS, seed=seed)
    whole_chunk = user_chunk(frame, dataset, dataset.end_of_day_ms(day(DAYS - 1)))
    summaries = None
    for k in range(DAYS):
        chunk = user_chunk(frame[frame.ds == day(k)], dataset, dataset.end_of_day_ms(day(k)), summaries)
        summaries = summaries_of(chunk, dataset)
    last_day = point_in_time_steps(chunk, dataset, STRICTLY_BEFORE).to_pylist()
    is_last_day = {row["exposure_id"] for row in last_day if row[KIND] == EXPOSURE}
    expected = point_in_time_steps(whole_chunk, dataset, STRICTLY_BEFORE).to_pylist()
    expected = [row for row in expected if row[KIND] == QUERY or row["exposure_id"] in is_last_day]
    assert len(is_last_day) > 20
    assert last_day == expected
    assert summaries.to_pylist() == summaries_of(whole_chunk, dataset).to_pylist()


def changed_inputs(dataset: Dataset, seed: int, side: Side) -> set[str]:
    """Inputs of a step, or of an earlier one, that change when all that is not known at the step changes."""
    frame = random_exposures(dataset, users=25, rows=400, days=DAYS, seed=seed)
    rng = np.random.default_rng(seed)
    cuts = {user: int(rng.choice(times)) for user, times in frame.groupby("user_id").exposed_at_ms}
    shuffled = with_the_unknown_shuffled(frame, dataset, cuts, seed)
    before, after = (steps_of(log, dataset, side) for log in (frame, shuffled))
    is_seen = ((before[KIND] == EXPOSURE) & (before.exposed_at_ms <= before.user_id.map(cuts))).to_numpy()
    assert is_seen.sum() > 150
    assert (is_seen & (before.exposed_at_ms == before.user_id.map(cuts)).to_numpy()).sum() > 25  # ties at the cut
    assert any(column(before, c.name) != column(after, c.name) for c in outcome_columns(dataset))
    names = [c.name for c in input_columns(dataset)]
    return {name for name in names if column(before[is_seen], name) != column(after[is_seen], name)}


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("seed", range(3))
def test_no_input_changes_when_the_unknown_is_shuffled(name, seed):
    assert changed_inputs(get_dataset(name), seed, STRICTLY_BEFORE) == set()


@pytest.mark.parametrize("name", DATASETS)
def test_inputs_change_if_equal_time_stamps_see_each_other(name):
    leaks = changed_inputs(get_dataset(name), 1, "right")
    assert {"seen_click", "new_click", "last_channel", "seen_by_channel", "new_by_channel", "since_click_s"} <= leaks


@pytest.mark.parametrize(("exposures", "is_error"), [(4, False), (12, True)])
def test_costs_that_need_more_than_64_bits_are_one_clear_line(exposures, is_error):
    """Each cost is the largest that is not quarantined; 10 of them would overflow."""
    dataset = get_dataset("criteo")
    frame = random_exposures(dataset, users=1, rows=exposures, days=DAYS, seed=0).assign(cost=1e9)
    if is_error:
        with pytest.raises(UserError, match="the costs of a user of criteo add up to more than 4,611,686,018"):
            steps_of(frame, dataset)
    else:
        assert steps_of(frame, dataset).new_cost.max() >= 1e9


def test_the_costs_of_many_users_may_add_up_to_more_than_64_bits():
    dataset = get_dataset("criteo")
    frame = random_exposures(dataset, users=12, rows=24, days=DAYS, seed=0).assign(cost=1e9)
    frame = frame[frame.groupby("user_id").cumcount() < 2]
    assert len(frame) > 10
    assert steps_of(frame, dataset).new_cost.max() <= 2e9

"""Candidate rows: what they know, what they must not know, and their figures by hand."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_exposures import day, random_exposures
from unknown_shuffled import with_the_unknown_shuffled
from user_chunks import user_chunk

from features.candidate_inputs import (
    PRIOR_EXPOSURES,
    candidate_inputs,
    category_names,
    number_names,
    task_names,
    with_gains_known_by,
)
from features.item_history import count_items, fold_item_history
from features.point_in_time import point_in_time_steps
from features.visibility import STRICTLY_BEFORE, Side
from schemas.dataset import Dataset, get_dataset

DAYS = 3
CRITEO, KUAIRAND = get_dataset("criteo"), get_dataset("kuairand")


def candidate_rows(
    frame: pd.DataFrame, dataset: Dataset, history_day: int = DAYS - 2, side: Side = STRICTLY_BEFORE
) -> pa.Table:
    """All exposures as candidates; items have their history up to the evening of history_day."""
    chunk = user_chunk(frame, dataset, dataset.end_of_day_ms(day(DAYS - 1)))
    steps = point_in_time_steps(chunk, dataset, side).slice(0, len(chunk.exposures))
    past = user_chunk(frame[frame.ds <= day(history_day)], dataset, chunk.as_of_ms).exposures
    history = fold_item_history(None, [count_items(past, dataset)], dataset, day(history_day))
    return candidate_inputs(chunk.exposures, steps, history, dataset)


def changed_inputs(dataset: Dataset, seed: int, **options) -> set[str]:
    """Inputs of the rows at one moment of the last day that change when all that is not known then changes."""
    frame = random_exposures(dataset, users=12, rows=150, days=DAYS, seed=seed)
    times = frame[frame.ds == day(DAYS - 1)].exposed_at_ms
    cut = int(times.mode().iloc[0])
    cuts = dict.fromkeys(frame.user_id.unique(), cut)
    shuffled = with_the_unknown_shuffled(frame, dataset, cuts, seed, candidates_known=True)
    first, second = (candidate_rows(log, dataset, **options) for log in (frame, shuffled))
    is_at_cut = np.asarray(first.column("exposed_at_ms")) == cut
    assert is_at_cut.sum() > 1
    names = (*category_names(dataset), *number_names(dataset), "session_id", "position")
    assert any(not first.column(task).equals(second.column(task)) for task in task_names(dataset))
    values = [rows.filter(is_at_cut).select(names).to_pydict() for rows in (first, second)]
    return {name for name in names if repr(values[0][name]) != repr(values[1][name])}  # repr: NaN equals NaN


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(dataset=st.sampled_from([CRITEO, KUAIRAND]), seed=st.integers(0, 10_000))
def test_no_input_changes_when_the_unknown_is_shuffled(dataset, seed):
    assert changed_inputs(dataset, seed) == set()


def test_the_items_history_of_the_same_day_would_leak():
    leaks = changed_inputs(CRITEO, 1, history_day=DAYS - 1)
    assert {"campaign_rate_click", "campaign_exposures"} <= leaks


def test_equal_time_stamps_would_leak_if_they_saw_each_other():
    assert {"seen_click", "rate_click", "channel_rate_click"} <= changed_inputs(CRITEO, 1, side="right")


def test_labels_are_the_first_gain_and_both():
    frame = random_exposures(KUAIRAND, users=4, rows=60, days=DAYS, seed=0)
    rows = candidate_rows(frame, KUAIRAND).to_pandas().set_index("exposure_id")
    by_id = frame.set_index("exposure_id").loc[rows.index]
    assert (rows.click == by_id.click).all()
    assert (rows.click_long_view == by_id.click * by_id.long_view).all()
    assert (by_id.long_view > by_id.click).any()  # without the product this would not imply the first


def test_an_items_rate_is_shrunk_to_the_base_rate_and_a_new_item_has_it():
    frame = random_exposures(CRITEO, users=4, rows=60, days=DAYS, seed=0)
    frame["campaign"] = np.where(frame.ds == day(DAYS - 1), "new", "old")
    past = frame[frame.ds <= day(DAYS - 2)]
    rows = candidate_rows(frame, CRITEO).to_pandas()
    new, old = (rows[rows.campaign == name].iloc[0] for name in ("new", "old"))
    base = past.click.sum() / len(past)
    assert (new.campaign_exposures, old.campaign_exposures) == (0, len(past))
    assert new.campaign_rate_click == pytest.approx(base)
    expected = (past.click.sum() + base * PRIOR_EXPOSURES) / (len(past) + PRIOR_EXPOSURES)
    assert old.campaign_rate_click == pytest.approx(expected)


def test_a_label_counts_only_if_it_was_known_by_then():
    frame = random_exposures(CRITEO, users=4, rows=90, days=DAYS, seed=0)
    known_by = CRITEO.end_of_day_ms(day(1))
    exposures = user_chunk(frame, CRITEO, CRITEO.end_of_day_ms(day(DAYS - 1))).exposures
    conversions = with_gains_known_by(exposures, CRITEO, known_by).column("conversion").to_pylist()
    times = exposures.column("conversion_at_ms").to_pylist()
    assert conversions == [int(time is not None and time < known_by) for time in times]
    assert 0 < sum(conversions) < sum(exposures.column("conversion").to_pylist())


def test_other_rows_are_refused():
    frame = random_exposures(KUAIRAND, users=4, rows=60, days=DAYS, seed=0)
    chunk = user_chunk(frame, KUAIRAND, KUAIRAND.end_of_day_ms(day(DAYS - 1)))
    steps = point_in_time_steps(chunk, KUAIRAND, STRICTLY_BEFORE).slice(1, len(chunk.exposures))
    with pytest.raises(ValueError, match="other rows"):
        candidate_inputs(chunk.exposures, steps, None, KUAIRAND)

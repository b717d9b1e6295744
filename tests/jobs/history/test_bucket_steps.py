"""Steps of a bucket of users: in any chunks of days and users, without a look at what is not known yet."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bucket_lake import BucketLake
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from naive_history import comparable
from random_exposures import day, random_exposures
from unknown_shuffled import with_the_unknown_shuffled

from features.visibility import STRICTLY_BEFORE, Side
from jobs.history import bucket_exposures
from schemas.dataset import Dataset, get_dataset
from schemas.steps import derived_inputs
from schemas.tables import SEQUENCES, STEPS

DAYS = 5


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate),
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(
    name=st.sampled_from(["kuairand", "criteo"]),
    seed=st.integers(0, 99),
    users=st.integers(1, 12),
    cuts=st.sets(st.integers(1, DAYS - 1)),
    first=st.integers(0, DAYS - 1),
    chunk_rows=st.integers(1, 80),
)
@example(name="criteo", seed=0, users=30, cuts={1, 2, 3, 4}, first=0, chunk_rows=20)  # many are absent for days
def test_chunks_of_days_and_users_give_the_files_of_all_at_once(name, seed, users, cuts, first, chunk_rows):
    """With gains that become known days later, equal times, and users who are absent for days."""
    frame = random_exposures(get_dataset(name), users=users, rows=90, days=DAYS, seed=seed)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        lake = BucketLake(Path(folder), get_dataset(name), frame)
        requested = lake.days[min(first, len(lake.days) - 1) :]
        at_once = lake.build(requested)
        bounds = [0, *sorted(cut for cut in cuts if cut < len(lake.days)), len(lake.days)]
        patch.setattr(bucket_exposures, "CHUNK_ROWS", chunk_rows)
        in_chunks = lake.build(requested, chunks=[lake.days[a:b] for a, b in pairwise(bounds)])
    assert sorted(in_chunks) == sorted(at_once)
    assert {date for _, date, _ in at_once} == set(requested)


def changed_inputs(folder: Path, dataset: Dataset, side: Side) -> set[str]:
    """Inputs of a step, or of an earlier one, that change when all that is not known at the step changes."""
    frame = random_exposures(dataset, users=25, rows=400, days=DAYS, seed=1)
    rng = np.random.default_rng(1)
    cuts = {user: int(rng.choice(times)) for user, times in frame.groupby("user_id").exposed_at_ms}
    logs = []
    for k, log in enumerate((frame, with_the_unknown_shuffled(frame, dataset, cuts, 1))):
        lake = BucketLake(folder / str(k), dataset, log)
        stored = lake.build(lake.days, chunks=[[date] for date in lake.days], side=side)
        logs.append(lake.read(stored, STEPS).to_pandas().set_index("exposure_id"))
    at_ms = frame.set_index("exposure_id").exposed_at_ms.loc[logs[0].index]
    cut_ms = frame.set_index("exposure_id").user_id.map(cuts).loc[logs[0].index]
    is_seen = (at_ms <= cut_ms).to_numpy()
    assert (is_seen.sum(), (at_ms == cut_ms).sum()) > (150, 25)
    original, shuffled = (log[is_seen] for log in logs)
    return {c.name for c in derived_inputs(dataset) if compared(original[c.name]) != compared(shuffled[c.name])}


def compared(values: pd.Series) -> list[object]:
    return [comparable(value.tolist() if isinstance(value, np.ndarray) else value) for value in values]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kuairand", "criteo"])
def test_no_input_changes_when_the_unknown_is_shuffled(tmp_path, name):
    assert changed_inputs(tmp_path, get_dataset(name), STRICTLY_BEFORE) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kuairand", "criteo"])
def test_inputs_change_if_equal_time_stamps_see_each_other(tmp_path, name):
    leaks = changed_inputs(tmp_path, get_dataset(name), "right")
    assert {"seen_click", "new_click", "last_channel", "seen_by_channel", "new_by_channel", "since_click_s"} <= leaks


def test_a_day_without_exposures_of_the_bucket_has_no_file(tmp_path):
    frame = random_exposures(get_dataset("criteo"), users=3, rows=60, days=3, seed=2)
    lake = BucketLake(tmp_path, get_dataset("criteo"), frame[frame.ds != day(1)])
    stored = lake.build([day(0), day(1), day(2)])
    assert {(table, date) for table, date, _ in stored} == {
        (table, date) for table in (STEPS, SEQUENCES) for date in (day(0), day(2))
    }

"""The feature spec reads the steps of training users only, and refuses steps that do not match the exposures."""

import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from bucket_lake import BucketLake
from random_exposures import day, random_exposures
from user_chunks import exposure_steps

from jobs import build_feature_spec
from jobs.history import training_steps
from jobs.history.training_steps import read_training_steps
from lakehouse.feature_specs import latest_spec
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.splits import TRAIN, split_of

DATASET = get_dataset("criteo")
COLUMNS = ("exposure_id", "user_id", "channel", "gap_s", "seen_click", "last_campaign")


@pytest.fixture
def frame() -> pd.DataFrame:
    return random_exposures(DATASET, users=40, rows=900, days=3, seed=6)


@pytest.fixture
def built(tmp_path, frame) -> BucketLake:
    built = BucketLake(tmp_path / "lake", DATASET, frame)
    build_steps(built)
    return built


def build_steps(built: BucketLake) -> None:
    built.publish(built.build(built.days), built.days)


def fit(built: BucketLake, monkeypatch, capsys) -> str:
    """Run the job; what it prints."""
    argv = ["build_feature_spec", "--dataset", DATASET.name, "--lake", str(built.lake.root)]
    monkeypatch.setattr(sys, "argv", argv)
    build_feature_spec.main()
    return capsys.readouterr().out


@pytest.mark.parametrize("rows_per_read", [7, 65_536])
def test_rows_are_those_of_training_users_with_columns_of_both_tables(built, frame, monkeypatch, rows_per_read):
    monkeypatch.setattr(training_steps, "_ROWS_PER_READ", rows_per_read)
    rows = pa.concat_tables(read_training_steps(built.lake, DATASET, built.days, COLUMNS))
    expected = exposure_steps(frame, DATASET).select(list(COLUMNS)).to_pandas()
    expected = expected[[split_of(user) == TRAIN for user in expected.user_id]]
    assert 0 < len(expected) < len(frame)
    actual, expected = (table.sort_values("exposure_id", ignore_index=True) for table in (rows.to_pandas(), expected))
    pd.testing.assert_frame_equal(actual, expected, check_dtype=False)


@pytest.mark.parametrize("fault", ["order", "rows"])
def test_steps_of_other_rows_are_refused(built, frame, fault):
    exposures = frame[frame.ds == day(1)]
    swapped_ids = np.roll(exposures.exposure_id, 1)
    built.publish_exposures(
        day(1), exposures.iloc[1:] if fault == "rows" else exposures.assign(exposure_id=swapped_ids)
    )
    with pytest.raises(UserError, match=f"steps/ds={day(1)} does not match the exposures of that day"):
        list(read_training_steps(built.lake, DATASET, built.days, COLUMNS))


@pytest.mark.slow(0.5)
def test_a_spec_is_left_alone_until_exposures_or_steps_change(built, frame, monkeypatch, capsys):
    assert "features kept" in fit(built, monkeypatch, capsys)
    assert "fresh, left alone" in fit(built, monkeypatch, capsys)
    built.publish_exposures(day(2), frame.assign(click=1 - frame.click))
    with pytest.raises(UserError, match=f"steps of criteo on {day(2)} in .* are missing or stale"):
        fit(built, monkeypatch, capsys)
    build_steps(built)
    assert "features kept" in fit(built, monkeypatch, capsys)


@pytest.mark.slow(0.5)
def test_the_rows_of_other_users_do_not_enter_the_spec(built, frame, tmp_path, monkeypatch, capsys):
    is_training = np.array([split_of(user) == TRAIN for user in frame.user_id])
    changed = frame.copy()
    for name in ("click", "campaign", "channel", "cost"):
        changed.loc[~is_training, name] = np.random.default_rng(0).permutation(frame[name][~is_training].to_numpy())
    assert not changed.equals(frame)
    built_from_changed = BucketLake(tmp_path / "changed", DATASET, changed)
    build_steps(built_from_changed)
    for lake in (built, built_from_changed):
        fit(lake, monkeypatch, capsys)
    assert latest_spec(built.lake, DATASET) == latest_spec(built_from_changed.lake, DATASET)


def test_steps_are_needed(tmp_path, frame, monkeypatch, capsys):
    without_steps = BucketLake(tmp_path / "lake", DATASET, frame)
    with pytest.raises(UserError, match=f"steps of criteo on {day(0)} in .* are missing or stale: run build_sequences"):
        fit(without_steps, monkeypatch, capsys)

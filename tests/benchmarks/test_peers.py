"""Polars and the pandas loop find the same journeys."""

import pandas as pd
import pytest

from benchmarks.commands import module
from benchmarks.inputs.generated_log import count_rows, generated_log, log_file, skewed_log
from benchmarks.measure import measure
from benchmarks.pandas_peer import MIN_EXPOSURES, STEPS, journey
from schemas.splits import SPLITS

pytest.importorskip("polars", reason="polars is not installed: .venv/bin/pip install -r requirements-bench.txt")
pytestmark = pytest.mark.slow(1)  # generates a log and reads it


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return log_file(generated_log(tmp_path_factory.mktemp("cache"), 3_000, users=150))


@pytest.mark.slow(0.5)
def test_polars_and_the_loop_find_the_same_journeys(log, tmp_path):
    cost = measure(module("benchmarks.polars_peer", "--log", log, "--out", tmp_path / "out"))
    windows = pd.concat([pd.read_parquet(tmp_path / "out" / f"{split}.parquet") for split in SPLITS]).set_index("uid")
    rows = pd.read_csv(log, sep="\t")
    expected = {user: arrays for user in rows["uid"].unique() if (arrays := journey(rows, user))}
    assert 50 < len(expected) < 150  # some users have too few exposures
    assert cost.figures == {"users": len(expected)}
    assert sorted(windows.index) == sorted(expected)
    for user, arrays in expected.items():
        assert MIN_EXPOSURES <= len(windows.loc[user, "timestamp"]) <= STEPS
        # Exposures with equal time stamps may be in either order.
        has_ties = rows[rows["uid"] == user].duplicated(["timestamp"]).any()
        for name in ("timestamp",) if has_ties else ("timestamp", "cost", "cat8"):
            assert list(windows.loc[user, name]) == list(arrays[name])


@pytest.mark.slow
def test_the_loop_is_timed_on_a_few_users_and_extrapolated_to_all(log):
    figures = measure(module("benchmarks.pandas_peer", "--log", log, "--users", "7")).figures
    assert figures["timed_users"] == 7
    assert figures["users"] == 150


def test_a_log_is_generated_once(log):
    cache = log.parent.parent
    inode = log.stat().st_ino
    assert log_file(generated_log(cache, 3_000, users=150)).stat().st_ino == inode
    assert count_rows(log) == len(pd.read_csv(log, sep="\t"))


def test_a_skewed_log_has_the_same_rows_and_one_user_with_a_tenth_of_them(log):
    rows = pd.read_csv(log, sep="\t")
    skewed = pd.read_csv(log_file(skewed_log(log.parent.parent, 3_000, users=150)), sep="\t")
    pd.testing.assert_frame_equal(rows.drop(columns="uid"), skewed.drop(columns="uid"))
    is_changed = rows["uid"] != skewed["uid"]
    assert skewed.loc[is_changed, "uid"].nunique() == 1
    assert 0.08 < (skewed["uid"] == skewed.loc[is_changed, "uid"].iloc[0]).mean() < 0.15

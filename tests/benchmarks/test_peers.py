"""The peers do the work that they are said to do, and the same as each other."""

import pandas as pd
import pytest

from benchmarks import pipeline
from benchmarks.measure import measured
from benchmarks.pandas_peer import LEAST, STEPS, journey
from schemas.splits import SPLITS

pytest.importorskip("polars", reason="polars is not installed: .venv/bin/pip install -r requirements-bench.txt")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return pipeline.log_file(pipeline.generated_log(tmp_path_factory.mktemp("kept"), 3_000, users=150))


def test_polars_and_the_loop_find_the_same_journeys(log, tmp_path):
    made = measured(pipeline.module("benchmarks.polars_peer", "--log", log, "--out", tmp_path / "out"))
    found = pd.concat([pd.read_parquet(tmp_path / "out" / f"{split}.parquet") for split in SPLITS]).set_index("uid")
    rows = pd.read_csv(log, sep="\t")
    expected = {user: own for user in rows["uid"].unique() if (own := journey(rows, user))}
    assert 50 < len(expected) < 150  # some have too few exposures
    assert made.figures == {"users": len(expected)}
    assert sorted(found.index) == sorted(expected)
    for user, own in expected.items():
        assert LEAST <= len(found.loc[user, "timestamp"]) <= STEPS
        # Equal time stamps may stand in either order.
        tied = rows[rows["uid"] == user].duplicated(["timestamp"]).any()
        for name in ("timestamp",) if tied else ("timestamp", "cost", "cat8"):
            assert list(found.loc[user, name]) == list(own[name])


def test_the_loop_is_timed_on_some_users_and_extrapolated_to_all(log):
    figures = measured(pipeline.module("benchmarks.pandas_peer", "--log", log, "--users", "7")).figures
    assert figures["timed_users"] == 7
    assert figures["users"] == 150


def test_a_generated_log_is_made_once(log):
    kept = log.parent.parent
    before = log.stat().st_ino
    assert pipeline.log_file(pipeline.generated_log(kept, 3_000, users=150)).stat().st_ino == before
    assert pipeline.rows_of(log) == len(pd.read_csv(log, sep="\t"))

"""Every dropped column has its reason; only what the fitting users show enters the spec."""

import numpy as np
import pytest
from random_exposures import day, random_exposures, to_spark

from jobs.history.feature_selection import fit_spec
from jobs.history.steps import EXPOSURE, KIND, steps_with_inputs
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec


@pytest.fixture(scope="module")
def planted(spark) -> FeatureSpec:
    """A log with planted columns: constant, almost missing, copied, informative, random."""
    dataset = get_dataset("kuairand")
    frame = random_exposures(dataset, users=40, rows=3000, days=3, seed=8)
    rng = np.random.default_rng(0)
    frame["is_lowactive_period"] = "0"
    frame["onehot_feat4"] = np.where(np.arange(len(frame)) == 0, "x", None)
    frame["fans_user_num"] = rng.random(len(frame)) * 100
    frame["follow_user_num"] = frame["fans_user_num"] * 2
    likes_short = frame.user_id % 2
    frame["user_active_degree"] = np.where(likes_short == 1, "high", "low")
    frame["click"] = ((rng.random(len(frame)) < 0.1 + 0.7 * likes_short) | (frame.fans_user_num > 95)).astype(int)
    frame["friend_user_num"] = frame["click"] * 3.0 + rng.random(len(frame))
    frame["register_days"] = rng.random(len(frame))
    rows = to_spark(spark, frame, dataset)
    steps = steps_with_inputs(rows, None, dataset, dataset.end_of_day_ms(day(2)))
    return fit_spec(steps.where(f"{KIND} = '{EXPOSURE}'"), dataset, dataset.channels, day(0), day(2), 0.5)


def test_nobody_to_fit_on_is_an_error_in_one_line(spark):
    dataset = get_dataset("kuairand")
    rows = to_spark(spark, random_exposures(dataset, users=2, rows=20, days=2, seed=1), dataset)
    steps = steps_with_inputs(rows, None, dataset, dataset.end_of_day_ms(day(1)))
    with pytest.raises(UserError, match="no exposure of a training user from"):
        fit_spec(steps.where("false"), dataset, dataset.channels, day(0), day(1), 0.5)


def feature(spec: FeatureSpec, name: str):
    return next(f for f in spec.features if f.name == name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("is_lowactive_period", "constant: one value only"),
        ("onehot_feat4", "missing in 100.0% of the training steps"),
        ("register_days", "independent of channel and gains"),
    ],
)
def test_dropped_with_a_reason(planted, name, reason):
    assert not feature(planted, name).kept
    assert reason in feature(planted, name).reason


def test_of_two_copies_one_stays(planted):
    pair = [feature(planted, name) for name in ("fans_user_num", "follow_user_num")]
    assert sorted(f.kept for f in pair) == [False, True]
    assert any("correlation 1.000 with" in f.reason for f in pair)


def test_informative_features_stay(planted):
    assert feature(planted, "user_active_degree").kept
    assert feature(planted, "user_active_degree").mutual_information_reward > 0.05
    assert feature(planted, "user_active_degree").vocabulary == ("high", "low") or feature(
        planted, "user_active_degree"
    ).vocabulary == ("low", "high")
    assert feature(planted, "friend_user_num").kept


def test_kept_or_explained(planted):
    assert all(f.kept == (f.reason == "") for f in planted.features)
    assert all(f.std and f.std > 0 for f in planted.kept_features if f.role == "numeric")


def test_a_spec_survives_its_json(planted):
    restored = FeatureSpec.from_json(planted.to_json())
    assert restored == planted
    assert restored.version == planted.version

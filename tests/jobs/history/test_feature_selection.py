"""Every dropped column has its reason; only what the fitting users show enters the spec."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from random_exposures import day, random_exposures
from sklearn.metrics import mutual_info_score
from user_chunks import exposure_steps

from jobs.history import feature_selection
from jobs.history.feature_selection import fit_spec
from jobs.history.feature_statistics import RAREST_CATEGORY
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec


@pytest.fixture(scope="module")
def planted() -> FeatureSpec:
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
    return spec_of(exposure_steps(frame, dataset), rows_per_table=1000)


def spec_of(steps: pa.Table, rows_per_table: int) -> FeatureSpec:
    """The spec of these steps, read in tables of a few rows."""
    dataset = get_dataset("kuairand")

    def read(columns: Sequence[str]) -> list[pa.Table]:
        chosen = steps.select(columns)
        return [chosen.slice(start, rows_per_table) for start in range(0, len(steps), rows_per_table)]

    return fit_spec(read, dataset, dataset.channels, day(0), day(2), 0.5)


@pytest.fixture(scope="module")
def random_steps() -> pa.Table:
    dataset = get_dataset("kuairand")
    return exposure_steps(random_exposures(dataset, users=30, rows=600, days=3, seed=1), dataset)


def test_nobody_to_fit_on_is_an_error_in_one_line(random_steps):
    with pytest.raises(UserError, match="no exposure of a training user from"):
        spec_of(random_steps.slice(0, 0), rows_per_table=10)


@pytest.mark.parametrize("rows_per_table", [17, 250])
def test_a_spec_does_not_depend_on_how_its_rows_are_cut_and_ordered(random_steps, rows_per_table):
    shuffled = random_steps.take(pa.array(np.random.default_rng(0).permutation(len(random_steps))))
    assert spec_of(shuffled, rows_per_table).version == spec_of(random_steps, 600).version


def test_numbers_are_described_as_the_model_reads_them(random_steps):
    spec, frame = spec_of(random_steps, rows_per_table=100), random_steps.to_pandas()
    plain, heavy = feature(spec, "last_like"), feature(spec, "gap_s")
    assert plain.unit is None
    assert (plain.mean, plain.std) == (
        pytest.approx(frame.last_like.mean()),
        pytest.approx(frame.last_like.std(ddof=0)),
    )
    assert plain.missing_share == pytest.approx(frame.last_like.isna().mean())
    assert heavy.unit == pytest.approx(np.exp(np.log(frame.gap_s[frame.gap_s > 0]).mean()))
    logs = np.log1p(frame.gap_s / heavy.unit)
    assert (heavy.mean, heavy.std) == (pytest.approx(logs.mean()), pytest.approx(logs.std(ddof=0)))


def test_vocabularies_begin_with_the_most_frequent_value(random_steps):
    counts = random_steps.to_pandas().last_tag.value_counts()
    expected = sorted(counts.index[counts >= RAREST_CATEGORY], key=lambda value: (-counts[value], value))
    assert feature(spec_of(random_steps, rows_per_table=50), "last_tag").vocabulary == tuple(expected)
    assert len(expected) > 2


def test_mutual_information_equals_that_of_scikit_learn(random_steps):
    spec, frame = spec_of(random_steps, rows_per_table=100), random_steps.to_pandas()
    tag = frame.last_tag.fillna("missing")
    assert feature(spec, "last_tag").mutual_information_reward == pytest.approx(mutual_info_score(tag, frame.click))
    is_known = frame.channel.notna()
    expected = mutual_info_score(tag[is_known], frame.channel[is_known])
    assert feature(spec, "last_tag").mutual_information_action == pytest.approx(expected)


def test_the_sample_is_bounded_and_does_not_depend_on_the_order_of_the_rows(random_steps, monkeypatch):
    monkeypatch.setattr(feature_selection, "RULES", replace(feature_selection.RULES, sample_rows=200))
    rng = np.random.default_rng(3)
    ids = pa.array(rng.integers(-(2**63), 2**63, len(random_steps), dtype=np.int64))
    hashed = random_steps.set_column(random_steps.column_names.index("exposure_id"), "exposure_id", ids)
    samples = []
    monkeypatch.setattr(
        feature_selection, "_drop_uninformative", lambda features, sample, _: samples.append(sample) or features
    )
    spec_of(hashed, rows_per_table=50)
    spec_of(hashed.take(pa.array(rng.permutation(len(hashed)))), rows_per_table=600)
    assert 160 < len(samples[0]) < 240
    assert samples[0].equals(samples[1])


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

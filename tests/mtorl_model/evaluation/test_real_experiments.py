"""Published experiments in which channels were drawn at random. Skipped without their data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.off_policy import OffPolicy
from mtorl_model.methods.common.channel_value import ChannelValues, ValueConfig
from mtorl_model.methods.common.label_rows import LabelRows

SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "data"
HILLSTROM, OPEN_BANDIT = SAMPLES / "hillstrom" / "hillstrom.csv", SAMPLES / "obd" / "random_all_all.csv.gz"


@pytest.mark.skipif(not OPEN_BANDIT.exists(), reason="needs the Open Bandit Dataset")
def test_the_random_log_of_open_bandit_predicts_what_the_other_policy_earned():
    """The policy `bts` as its own log shows it: the share of each item by position, whatever the context."""
    random, bts = (
        pd.read_csv(OPEN_BANDIT.with_name(f"{name}_all_all.csv.gz"), index_col=0) for name in ("random", "bts")
    )
    shares = pd.crosstab(bts.position, bts.item_id, normalize="index")
    items = np.sort(random.item_id.unique())
    policy_NA = shares.reindex(index=random.position, columns=items, fill_value=0.0).to_numpy()
    action_N, reward_N = np.searchsorted(items, random.item_id), random.click.to_numpy().astype(float)
    log = OffPolicy(
        action_N, reward_N, random.propensity_score.to_numpy(), np.full(policy_NA.shape, reward_N.mean()),
        UserBootstrap(np.arange(len(random))),
    )  # fmt: skip
    for estimated_R in (log.snips(policy_NA), log.doubly_robust(policy_NA)):
        interval = estimate(estimated_R)
        assert interval["low"] < bts.click.mean() < interval["high"]
        assert interval["low"] > 0


@pytest.mark.slow
@pytest.mark.skipif(not HILLSTROM.exists(), reason="needs the data of Hillstrom's e-mail experiment")
def test_recommended_emails_are_worth_no_less_than_the_best_one_for_all():
    """Learned from four fifths of the people; visits of the others, each person once."""
    people = pd.read_csv(HILLSTROM)
    arms = sorted(people.segment.unique())
    action_N = people.segment.map(arms.index).to_numpy()
    known = people.drop(columns=["segment", "visit", "conversion", "spend"])
    features_NF = pd.get_dummies(known).to_numpy(np.float32)
    visit_N = people.visit.to_numpy(np.float32)
    fold_N = np.random.default_rng(0).integers(0, 5, len(people))
    labels = LabelRows(
        features_NF, action_N, visit_N[:, None], np.ones((len(people), 1), np.float32),
        np.full(len(people), 1 / 3, np.float32), np.arange(len(people)), None,
    )  # fmt: skip
    recommended_N, constant_N = np.zeros_like(action_N), np.zeros_like(action_N)
    for fold in range(5):
        values = ChannelValues.fit(labels.take(fold_N != fold), np.zeros((3, 0), np.int64), ValueConfig())
        is_test_N = fold_N == fold
        base_N1 = np.full((int(is_test_N.sum()), 1), visit_N.mean())
        recommended_N[is_test_N] = values.values(features_NF[is_test_N], base_N1)[..., 0].argmax(axis=1)
        constant_N[is_test_N] = values.best_channel
    log = OffPolicy(
        action_N, visit_N.astype(float), np.full(len(people), 1 / 3), np.full((len(people), 3), visit_N.mean()),
        UserBootstrap(np.arange(len(people))),
    )  # fmt: skip
    one_hot_AA = np.eye(3)
    difference = estimate(log.doubly_robust(one_hot_AA[recommended_N]) - log.doubly_robust(one_hot_AA[constant_N]))
    print(f"recommended minus the best constant: {difference}")
    assert difference["low"] >= -0.005
    assert (constant_N == arms.index("Mens E-Mail")).all()

"""The study of user embeddings: what its click model reads, and that nothing predicted was seen by the encoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lakehouse.lake import Lake
from mtorl_model.data.encoding import input_sizes
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.studies import embeddings
from mtorl_model.studies.cross_validation import fold_parts
from mtorl_model.studies.ctr_model import ClickModel
from mtorl_model.studies.embeddings import VARIANTS, cut_at, fit_and_predict, part_of, pretrained, run_embeddings
from mtorl_model.studies.training_pool import training_pool
from mtorl_model.studies.variants import REFERENCE
from schemas.dataset import get_dataset
from schemas.errors import UserError

KUAIRAND = get_dataset("kuairand")


@pytest.fixture(scope="module")
def pool(synthetic_lake):
    lake, _ = synthetic_lake
    return training_pool(lake, "kuairand", "binary")


@pytest.fixture(scope="module")
def parts(pool):
    cut_ms = cut_at(pool[1].steps["exposed_at_ms"])
    return tuple(part_of(pool[1], users_U, 20, cut_ms) for users_U in fold_parts(pool[1].user_U, 0))


def test_the_click_model_reads_the_past_the_step_its_channel_and_the_embedding_and_no_later_step(parts, pool):
    train, _, _ = parts
    batch = train.windows.take(slice(0, 12)).batch()
    sizes = input_sizes(pool[0].spec, pool[0].reward_inputs)
    torch.manual_seed(0)
    model = ClickModel(sizes, user_embedding=4).eval()
    user_BLE = torch.randn(*batch.valid_BL.shape, 4)
    window_N, position_N = batch.label_BL.nonzero(as_tuple=True)
    odds_NG = model(batch, user_BLE)
    assert odds_NG.shape == (len(window_N), sizes.gains)
    window, position = (int(index) for index in (window_N[-1], position_N[-1] - 1))
    numeric_BLF = batch.numeric_BLF.clone()
    numeric_BLF[window, position] += 3.0
    changed_N = (model(batch._replace(numeric_BLF=numeric_BLF), user_BLE) != odds_NG).any(dim=1)
    is_later_N = (window_N == window) & (position_N >= position)
    assert changed_N.any()
    assert not changed_N[~is_later_N].any()
    assert changed_N[is_later_N].all()
    for changed in (
        model(batch._replace(action_BL=(batch.action_BL + 1) % sizes.actions), user_BLE),
        model(batch, user_BLE + 1.0 * torch.arange(4)),
    ):
        assert (changed != odds_NG).any(dim=1).all()
    outcomes = batch._replace(gains_BLG=1 - batch.gains_BLG, reward_BL=1 - batch.reward_BL)
    assert torch.equal(model(outcomes, user_BLE), odds_NG)  # not its own outcome


def test_users_and_days_of_what_is_predicted_are_new_to_the_encoder(parts, pool, monkeypatch):
    learned = []

    def fit(self, train, valid, run):
        learned.extend([train, valid])
        return self.initialise()

    monkeypatch.setattr(MTORL, "fit", fit)
    train, stop, held_out = parts
    pretrained(train, stop, pool[0], KUAIRAND, epochs=1)
    for store, part in zip(learned, (train, stop), strict=True):
        assert store.windows.label_NL.sum() == part.earlier_WL.sum() > 0
    predicted_users = set(held_out.user_WL[held_out.later_WL])
    assert not predicted_users & set(np.concatenate([part.user_WL[part.earlier_WL] for part in (train, stop)]))
    time_of = dict(zip(pool[1].steps["exposure_id"], pool[1].steps["exposed_at_ms"], strict=True))
    earlier, later = (
        [time_of[exposure] for part in parts for exposure in part.exposure_WL[getattr(part, label_WL)]]
        for label_WL in ("earlier_WL", "later_WL")
    )
    assert max(earlier) < cut_at(pool[1].steps["exposed_at_ms"]) <= min(later)
    assert 0.3 < len(earlier) / (len(earlier) + len(later)) < 0.7


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.encoder != "none"], ids=lambda v: v.encoder)
def test_the_pre_trained_encoder_is_used_and_never_changed(parts, pool, variant):
    encoder, _ = pool
    train, stop, held_out = parts
    sizes = input_sizes(encoder.spec, encoder.reward_inputs)
    small = replace(train, windows=train.windows.take(slice(0, 40)), earlier_WL=train.earlier_WL[:40],
                    later_WL=train.later_WL[:40])  # fmt: skip
    model = MTORL(embeddings.preset("small", "kuairand").changed({"hidden": 8}), encoder.spec, None).initialise()
    networks, predictions = model.networks[:2], []
    for network in networks:
        weights = {name: weight.clone() for name, weight in network.state_dict().items()}
        predictions.append(fit_and_predict(variant, sizes, network, (small, stop, held_out), epochs=1))
        assert all(torch.equal(weight, weights[name]) for name, weight in network.state_dict().items())
    assert predictions[0].shape == (held_out.later_WL.sum(), sizes.gains)
    is_pre_trained = variant.encoder != "random"
    assert (not np.allclose(predictions[0], predictions[1], atol=1e-4)) == is_pre_trained


@pytest.mark.slow
def test_the_study_compares_all_variants_on_the_same_labels(synthetic_lake):
    lake, _ = synthetic_lake
    rows, protocol = run_embeddings(lake, KUAIRAND, folds=1, epochs=1)
    assert {row["variant"] for row in rows} == {variant.name for variant in VARIANTS}
    assert {row["figure"] for row in rows} == {"click auc", "click logloss", "long_view auc", "long_view logloss"}
    for row in rows:
        assert (row["difference"] is None) == (row["variant"] == REFERENCE)
    assert protocol["users"] > 0
    assert "no test user" in protocol["protocol"]
    assert protocol["command"] == "make study DATASET=kuairand STUDY=embeddings FOLDS=1 EPOCHS=1"


def test_a_log_of_too_few_days_is_one_clear_line(pool, monkeypatch):
    monkeypatch.setattr(embeddings, "training_pool", lambda *_: pool)
    monkeypatch.setattr(embeddings, "cut_at", lambda _: 0)
    with pytest.raises(UserError, match="too few users or days of kuairand"):
        run_embeddings(Lake(Path("lake")), KUAIRAND, folds=1, epochs=1)

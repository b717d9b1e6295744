"""Cross-validation by user: the parts of the users, cached trainings, and no test user in a study."""

import csv
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from synthetic import write_lake

from mtorl_model.data.encoding import Encoder
from mtorl_model.data.windows.step_pool import StepPool
from mtorl_model.evaluation.bootstrap import UserBootstrap
from mtorl_model.evaluation.metrics import channel_figures
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig
from mtorl_model.studies import run
from mtorl_model.studies.cross_validation import (
    FOLDS,
    cross_validate,
    fold_parts,
    hide_inputs,
)
from mtorl_model.studies.setting import Setting
from mtorl_model.studies.variants import REFERENCE, STUDIES, Study, Variant, repetitions
from mtorl_model.training.config import TrainConfig
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.splits import TEST, split_of

KUAIRAND = get_dataset("kuairand")
SETTING = Setting(
    ModelConfig(hidden=16, steps=20), LossConfig(), TrainConfig(batch_size=64, max_epochs=2, device="cpu")
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return write_lake(tmp_path_factory.mktemp("lake"), users=80)


def test_every_user_is_held_out_in_one_fold_and_has_one_part_in_each():
    users = np.arange(2000)
    parts = [fold_parts(users, fold) for fold in range(FOLDS)]
    assert (sum(p.held_out_U.astype(int) for p in parts) == 1).all()
    for part in parts:
        assert (np.sum(part, axis=0) == 1).all()
        assert 0.17 < part.held_out_U.mean() < 0.23
        assert 0.06 < part.stop_U.mean() < 0.10
    # More users do not change the part of a user.
    assert np.array_equal(fold_parts(np.arange(1000), 0).train_U, parts[0].train_U[:1000])


@pytest.mark.slow
def test_settings_are_measured_on_the_same_held_out_labels_and_no_training_runs_twice(lake, monkeypatch):
    root, spec = lake
    short = replace(SETTING, model=replace(SETTING.model, steps=6))
    ensemble_setting = replace(
        SETTING, train=replace(SETTING.train, members=2), model=replace(SETTING.model, prior_adjustment=0.5)
    )
    single, shorter, ensemble = cross_validate(root, "kuairand", [SETTING, short, ensemble_setting], folds=2)
    for held_out in (shorter, ensemble):
        for name in ("exposure_N", "user_N", "action_N", "gain_NG"):
            assert np.array_equal(getattr(single, name), getattr(held_out, name)), name
    assert not np.allclose(single.policy_NA, shorter.policy_NA)
    assert np.allclose(ensemble.policy_NA.sum(axis=1), 1)
    pool = StepPool(root, KUAIRAND, Encoder(spec, KUAIRAND))
    held_out_users = pool.user_U[fold_parts(pool.user_U, 0).held_out_U | fold_parts(pool.user_U, 1).held_out_U]
    assert set(single.user_N) == {u for u in held_out_users if split_of(u) != TEST}

    files = {file: file.stat().st_mtime_ns for file in (root.studies("kuairand") / "held_out").iterdir()}
    assert len(files) == 2 * 3  # in each fold: seeds 0 and 1 of one setting, seed 0 of the other
    repeated = cross_validate(root, "kuairand", [ensemble_setting], folds=2)[0]
    assert np.array_equal(repeated.policy_NA, ensemble.policy_NA)
    assert {file: file.stat().st_mtime_ns for file in (root.studies("kuairand") / "held_out").iterdir()} == files


def test_hidden_inputs_are_missing(lake):
    encoder = Encoder(lake[1], KUAIRAND)
    pool = StepPool(lake[0], KUAIRAND, encoder)
    windows = pool.windows(*pool.cut(np.ones(len(pool.user_U), dtype=bool), 6))
    names = encoder.input_names
    hidden = hide_inputs(windows, encoder, ("last_", "register_days"))
    for kind, profile, inputs, hidden_inputs in (
        (names.categorical, windows.profile_categorical_NK, windows.categorical_NLK, hidden.categorical_NLK),
        (names.numeric, windows.profile_numeric_NF, windows.numeric_NLF, hidden.numeric_NLF),
    ):
        for k, name in enumerate(kind[: len(kind) - profile.shape[1]]):
            if name.startswith("last_"):
                assert inputs[..., k].any(), name
                assert not hidden_inputs[..., k].any(), name
            else:
                assert np.array_equal(inputs[..., k], hidden_inputs[..., k]), name
    assert windows.profile_numeric_NF.any()
    assert not hidden.profile_numeric_NF.any()
    assert np.array_equal(hidden.profile_categorical_NK, windows.profile_categorical_NK)
    with pytest.raises(UserError, match="no input's name begins with wind_"):
        hide_inputs(windows, encoder, ("wind_",))


@pytest.mark.slow
def test_a_study_writes_its_table_protocol_and_picture(lake, monkeypatch, capsys):
    root, _ = lake
    barely_trained = replace(SETTING, train=replace(SETTING.train, learning_rate=1e-5))
    variants = [Variant(REFERENCE, SETTING), Variant("hardly trained", barely_trained)]
    monkeypatch.setitem(run.STUDIES, "ablation", Study("Does training help?", lambda _: variants))
    monkeypatch.setattr(run, "repetitions", lambda _: [Variant("repetition", SETTING, seed_block=1)])
    monkeypatch.setattr(sys, "argv", ["run", "--dataset=kuairand", f"--lake={root.root}", "--study=ablation"])
    run.main()
    folder = root.studies("kuairand")
    rows = list(csv.DictReader((folder / "ablation.csv").open()))
    protocol = json.loads((folder / "ablation.json").read_text())
    held_out = cross_validate(root, "kuairand", [SETTING, barely_trained], folds=2)
    users = UserBootstrap(held_out[0].user_N)
    f1 = [channel_figures(h.action_N, h.policy_NA.argmax(axis=1), 3, users)["f1_macro"] for h in held_out]
    row = next(r for r in rows if (r["variant"], r["figure"]) == ("hardly trained", "channel f1_macro"))
    assert float(row["value"]) == pytest.approx(f1[1][0])
    assert float(row["difference"]) == pytest.approx(f1[1][0] - f1[0][0])
    assert float(row["difference_low"]) <= float(row["difference"]) <= float(row["difference_high"])
    assert protocol["users"] == len(set(held_out[0].user_N))
    assert protocol["labels"] == len(held_out[0].user_N)
    assert "no test user" in protocol["protocol"]
    assert protocol["repetitions"] == ["repetition"]
    other_seed = cross_validate(root, "kuairand", [replace(SETTING, train=replace(SETTING.train, seed=1))], folds=2)[0]
    row = next(r for r in rows if (r["variant"], r["figure"]) == ("repetition", "channel accuracy"))
    assert float(row["value"]) == pytest.approx((other_seed.policy_NA.argmax(axis=1) == other_seed.action_N).mean())
    assert protocol["reference"]["train"]["learning_rate"] == SETTING.train.learning_rate
    assert protocol["command"] == "make study DATASET=kuairand STUDY=ablation FOLDS=2 SEEDS=1"
    picture = (folder / "ablation.svg").read_text()
    assert "hardly trained" in picture
    assert str(folder / "ablation.svg") in capsys.readouterr().out


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("dataset", ["kuairand", "criteo"])
def test_the_variants_of_a_study_are_distinct_and_contain_one_reference(study, dataset):
    variants = STUDIES[study].variants(dataset)
    repeated = repetitions(dataset)
    assert {v.setting for v in repeated} == {next(v.setting for v in variants if v.name == REFERENCE)}
    assert {v.seed_block for v in repeated} == {1, 2}  # seeds that no other variant has, for any number of seeds
    assert not any(v.seed_block for v in variants)
    assert sum(v.name == REFERENCE for v in variants) == 1
    assert len({v.name for v in variants}) == len({v.setting for v in variants}) == len(variants)
    assert all((v.axis_value is not None) == (STUDIES[study].axis is not None) for v in variants)

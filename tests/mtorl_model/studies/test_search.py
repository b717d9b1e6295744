"""The search: within its space, on validation users, pruned, and resumed after a kill."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from synthetic import write_lake

from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, preset
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.studies import search as searching
from mtorl_model.studies.search import (
    SPACE,
    Objective,
    base_trial,
    finished_trials,
    params_of,
    publish_search,
    search,
    setting_of,
)
from mtorl_model.studies.setting import Setting
from mtorl_model.training.config import TrainConfig
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.splits import TRAIN, VALIDATION, split_of

KUAIRAND = get_dataset("kuairand")
BASE = Setting(ModelConfig(hidden=16, steps=6), LossConfig(), TrainConfig(batch_size=64, max_epochs=3, device="cpu"))
SMALL_SPACE = {**{name: (value,) for name, value in params_of(BASE).items()}, "learning_rate": (1e-3, 1e-7)}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return write_lake(tmp_path_factory.mktemp("lake"), users=60)[0]


def test_a_trial_sets_exactly_the_parameters_of_the_space():
    base = Setting.from_config(preset("small", "kuairand"))
    params = {name: values[-1] for name, values in SPACE.items()}
    assert params_of(setting_of(base, params)) == params
    assert setting_of(base, params_of(base)) == base


def test_trials_train_on_training_users_and_are_judged_by_validation_users(lake):
    objective = Objective(lake, KUAIRAND, BASE, SMALL_SPACE)
    assert {split_of(user) for user in objective.pool.user_U} == {TRAIN, VALIDATION}
    for split in (TRAIN, VALIDATION):
        users = objective.pool.user_U[objective.split_U == split]
        assert {split_of(user) for user in users} == {split}
        _, label_WL = objective.pool.cut(objective.split_U == split, 6)
        assert objective._windows(split, 6).windows.label_NL.sum() == label_WL.sum()


@pytest.mark.slow
def test_a_killed_search_resumes_up_to_the_same_number_of_trials(lake, monkeypatch):
    monkeypatch.setattr(searching, "_STARTUP_TRIALS", 1)
    fit = MTORL.fit
    calls = []

    def killed_in_the_third(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(*args, **kwargs)

    monkeypatch.setattr(MTORL, "fit", killed_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        search(lake, KUAIRAND, BASE, SMALL_SPACE, 6)
    study = search(lake, KUAIRAND, BASE, SMALL_SPACE, 6)
    trials = finished_trials(study)
    assert len(trials) == 6
    assert len(calls) == 7
    assert trials[0].params["learning_rate"] == BASE.train.learning_rate  # as in the base
    assert study.best_params["learning_rate"] == 1e-3
    hopeless = [t for t in trials if t.params["learning_rate"] == 1e-7]
    assert hopeless
    assert all(t.state.name == "PRUNED" and len(t.intermediate_values) == 1 for t in hopeless)
    assert len(finished_trials(search(lake, KUAIRAND, BASE, SMALL_SPACE, 5))) == 6  # enough, so no trial is added
    study_of_other_base = search(lake, KUAIRAND, replace(BASE, loss=LossConfig(mu=0.5)), SMALL_SPACE, 1)
    assert len(finished_trials(study_of_other_base)) == 1

    files = publish_search(study, BASE, {"protocol": "here"}, lake, KUAIRAND)
    rows = list(csv.DictReader(files[0].open()))
    assert [int(row["trial"]) for row in rows] == [t.number for t in trials]
    summary = json.loads(files[2].read_text())
    assert summary["preset_loss"] == trials[0].value
    assert summary["best_loss"] == min(float(row["validation_loss"]) for row in rows)
    assert (summary["trials"], summary["pruned"]) == (6, len(hopeless))
    assert "learning rate" in files[1].read_text()


@pytest.mark.slow
def test_a_search_killed_in_its_first_trial_repeats_the_trial_of_the_base(lake, monkeypatch):
    base = replace(BASE, loss=LossConfig(mu=0.7))
    fit, calls = MTORL.fit, []

    def killed_first(*args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            raise KeyboardInterrupt
        if len(calls) == 3:
            raise UserError("training diverged")
        return fit(*args, **kwargs)

    monkeypatch.setattr(MTORL, "fit", killed_first)
    with pytest.raises(KeyboardInterrupt):
        search(lake, KUAIRAND, base, SMALL_SPACE, 3)
    study = search(lake, KUAIRAND, base, SMALL_SPACE, 3)
    assert base_trial(study, base) is not None
    assert len(finished_trials(study)) == 3
    assert len(calls) == 5  # one killed, three finished, and one that diverged, which does not end the search


def test_a_resumed_search_draws_other_trials(lake, monkeypatch):
    """The sampler does not repeat the parameters of the first call."""
    space = {**SMALL_SPACE, "learning_rate": tuple(10.0**-k for k in range(1, 9)), "dropout": (0.1, 0.2, 0.3, 0.4, 0.5)}
    trained = SimpleNamespace(histories=[SimpleNamespace(best=SimpleNamespace(monitor=1.0))])
    monkeypatch.setattr(MTORL, "fit", lambda *_, **__: trained)
    base = replace(BASE, loss=LossConfig(mu=0.9))
    for trials in (3, 6):
        study = search(lake, KUAIRAND, base, space, trials)
    values = [tuple(trial.params.values()) for trial in finished_trials(study)]
    assert len(values) == 6
    assert values[3:] != values[:3]

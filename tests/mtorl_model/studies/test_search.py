"""The search: within its space, on validation users, pruned, and taken up where it was killed."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from synthetic import write_lake

from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, preset
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.studies import search as searching
from mtorl_model.studies.cross_validation import Setting
from mtorl_model.studies.search import SPACE, Objective, done_trials, own_trial, report, search, setting_of, values_of
from mtorl_model.training.config import TrainConfig
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.splits import TRAIN, VALIDATION, split_of

KUAIRAND = get_dataset("kuairand")
BASE = Setting(ModelConfig(hidden=16, steps=6), LossConfig(), TrainConfig(batch_size=64, max_epochs=3, device="cpu"))
SMALL_SPACE = {**{name: (value,) for name, value in values_of(BASE).items()}, "learning_rate": (1e-3, 1e-7)}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return write_lake(tmp_path_factory.mktemp("lake"), users=60)[0]


def test_a_trial_sets_exactly_what_the_space_names():
    base = Setting.of(preset("small", "kuairand"))
    chosen = {name: values[-1] for name, values in SPACE.items()}
    assert values_of(setting_of(base, chosen)) == chosen
    assert setting_of(base, values_of(base)) == base


def test_trials_train_and_are_judged_on_users_of_their_own_split(lake):
    objective = Objective(lake, KUAIRAND, BASE, SMALL_SPACE)
    assert {split_of(user) for user in objective.pool.user_U} == {TRAIN, VALIDATION}
    for split in (TRAIN, VALIDATION):
        users = objective.pool.user_U[objective.split_U == split]
        assert {split_of(user) for user in users} == {split}
        _, label_WL = objective.pool.cut(objective.split_U == split, 6)
        assert objective._windows(split, 6).windows.label_NL.sum() == label_WL.sum()


@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_same_number_of_trials(lake, monkeypatch):
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
    trials = done_trials(study)
    assert len(trials) == 6
    assert len(calls) == 7
    assert trials[0].params["learning_rate"] == BASE.train.learning_rate  # the base's own values come first
    assert study.best_params["learning_rate"] == 1e-3
    hopeless = [t for t in trials if t.params["learning_rate"] == 1e-7]
    assert hopeless
    assert all(t.state.name == "PRUNED" and len(t.intermediate_values) == 1 for t in hopeless)
    assert len(done_trials(search(lake, KUAIRAND, BASE, SMALL_SPACE, 5))) == 6  # enough: nothing more is done
    other = search(lake, KUAIRAND, replace(BASE, loss=LossConfig(mu=0.5)), SMALL_SPACE, 1)
    assert len(done_trials(other)) == 1  # another question, another study

    files = report(study, BASE, {"protocol": "here"}, lake, KUAIRAND)
    rows = list(csv.DictReader(files[0].open()))
    assert [int(row["trial"]) for row in rows] == [t.number for t in trials]
    told = json.loads(files[2].read_text())
    assert told["preset_loss"] == trials[0].value
    assert told["best_loss"] == min(float(row["validation_loss"]) for row in rows)
    assert (told["trials"], told["pruned"]) == (6, len(hopeless))
    assert "learning rate" in files[1].read_text()


@pytest.mark.slow
def test_a_search_killed_in_its_first_trial_still_tries_the_presets_own_values(lake, monkeypatch):
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
    assert own_trial(study, base) is not None
    assert len(done_trials(study)) == 3
    assert len(calls) == 5  # killed, three done, and one that diverged and did not end the search


def test_a_search_that_goes_on_draws_other_trials(lake, monkeypatch):
    """The sampler does not begin again with the values of the first call."""
    space = {**SMALL_SPACE, "learning_rate": tuple(10.0**-k for k in range(1, 9)), "dropout": (0.1, 0.2, 0.3, 0.4, 0.5)}
    trained = SimpleNamespace(histories=[SimpleNamespace(best=SimpleNamespace(monitor=1.0))])
    monkeypatch.setattr(MTORL, "fit", lambda *_, **__: trained)
    base = replace(BASE, loss=LossConfig(mu=0.9))
    for trials in (3, 6):
        study = search(lake, KUAIRAND, base, space, trials)
    values = [tuple(trial.params.values()) for trial in done_trials(study)]
    assert len(values) == 6
    assert values[3:] != values[:3]

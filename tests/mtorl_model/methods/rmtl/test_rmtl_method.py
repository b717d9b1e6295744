"""RMTL as a whole: networks and trees, and the choice of the weights, through fit, predict, state and restore."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from method_inputs import CandidateInputs
from synthetic import make_spec

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.methods.common.label_rows import candidate_labels
from mtorl_model.methods.common.label_trees import LabelTrees
from mtorl_model.methods.method import Run
from mtorl_model.methods.rmtl import member as member_module
from mtorl_model.methods.rmtl.method import RMTL
from mtorl_model.training.config import FineTuneConfig
from schemas.dataset import get_dataset
from schemas.errors import UserError

TINY = {
    "members": 1, "max_epochs": 2, "batch_size": 64, "device": "cpu", "gain_iterations": 20, "min_samples_leaf": 5,
    "bottom": (8,), "tower": (), "experts": 2, "critic_bottom": (4,), "critic_tower": (), "critic_epochs": 1,
}  # fmt: skip
FINE_TUNING = FineTuneConfig(learning_rate=1e-3, batch_size=64, max_steps=1, device="cpu")


@pytest.fixture(scope="module")
def inputs() -> CandidateInputs:
    dataset = get_dataset("kuairand")
    return CandidateInputs(make_spec(dataset, "2022-04-22", "2022-04-23"))


def fitted(inputs: CandidateInputs, **settings: Any) -> RMTL:
    model = inputs.fit(RMTL, RMTL.presets("kuairand")["small"].changed(TINY | settings), None)
    assert isinstance(model, RMTL)
    return model


def fitted_policy(inputs: CandidateInputs) -> InitialPolicy:
    channels = inputs.spec.channels
    even = tuple([1 / len(channels)] * len(channels))
    return InitialPolicy(channels, even, dict.fromkeys(inputs.spec.gains, 0.5), even)


def log_loss(p_NT: np.ndarray, store: CandidateStore) -> float:
    return float(-np.log(np.where(store.labels_NT > 0, p_NT, 1 - p_NT)).mean())


@pytest.mark.slow
def test_the_blend_is_better_than_its_parts_and_trees_can_be_left_out(inputs):
    train, valid, store = (inputs._store(sessions, seed) for seed, sessions in enumerate((400, 600, 400)))
    models = {}
    for trees in (True, False):
        model = RMTL.presets("kuairand")["small"].changed(TINY | {"max_epochs": 6, "trees": trees})
        models[trees] = RMTL(model, inputs.spec, fitted_policy(inputs))
        models[trees].encoding = inputs.encoder.to_json()
        models[trees].fit(train, valid, Run())
    blended_NT, networks_NT = (models[trees].predict(store).gains_XG for trees in (True, False))
    np.testing.assert_array_equal(models[True]._networks_prediction(store).gains_XG, networks_NT)
    trees_NT = models[True].trees.gain_probabilities(store.features())
    assert log_loss(blended_NT, store) < min(log_loss(networks_NT, store), log_loss(trees_NT, store))
    assert not any(name.startswith(("trees", "blend")) for name in models[False].state())
    assert models[False].summary() + " and gradient boosting" == models[True].summary()


def test_trees_read_training_users_only_and_the_blend_validation_users(inputs, monkeypatch):
    original, seeds = CandidateInputs._store, []

    def spoiled(self, sessions, seed):
        store = original(self, sessions, seed)
        seeds.append(seed)
        if seed == 1:  # the validation users
            store.labels_NT[:] = 1 - store.labels_NT
        return store

    model = fitted(inputs)
    monkeypatch.setattr(CandidateInputs, "_store", spoiled)
    refitted = fitted(inputs)
    assert set(seeds) == {0, 1}
    for name, array in model.state().items():
        if name.startswith("trees."):
            np.testing.assert_array_equal(array, refitted.state()[name])
    # Trees that predict the opposite of the validation labels get less weight.
    assert (refitted.blend.gain_GK[:, 1] < model.blend.gain_GK[:, 1]).all()


def test_trees_are_fitted_again_every_day_and_the_blend_is_not(inputs):
    model = fitted(inputs)
    old_state = {name: array.copy() for name, array in model.state().items()}
    sample = inputs.day_sample(model)
    model.fine_tune(sample._replace(latest=sample.new.take(np.arange(0))), FINE_TUNING)
    assert all(np.array_equal(model.state()[name], old_state[name]) for name in old_state if name.startswith("trees."))
    model.fine_tune(sample, FINE_TUNING)
    expected = LabelTrees.fit(candidate_labels(sample.latest), model.config.boosting, 1).state()
    for name, array in expected.items():
        np.testing.assert_array_equal(model.state()[f"trees.{name}"], array)
    assert any(not np.array_equal(old_state[f"trees.{name}"], array) for name, array in expected.items())
    assert all(np.array_equal(model.state()[name], old_state[name]) for name in old_state if name.startswith("blend."))


@pytest.mark.slow
def test_trees_weight_gains_that_may_still_follow_by_the_networks_prediction(inputs):
    model, store = fitted(inputs), inputs._store(200, 0)
    late = replace(store, maturity_NT=np.full(store.maturity_NT.shape, 0.5, np.float32))
    labels = candidate_labels(late)._replace(prediction=model._networks_prediction(late))
    model.fine_tune(inputs.day_sample(model)._replace(latest=late), replace(FINE_TUNING, learning_rate=1e-12))
    for name, array in LabelTrees.fit(labels, model.config.boosting, 1).state().items():
        np.testing.assert_allclose(model.state()[f"trees.{name}"], array, rtol=1e-5)
    rates = [model._trees_prediction(trees, store).gains_XG.mean() for trees in (fitted(inputs).trees, model.trees)]
    assert rates[1] > rates[0] * 1.2


@pytest.mark.slow
@pytest.mark.parametrize("helps", [True, False])
def test_weights_that_do_not_help_are_neither_used_nor_stored(inputs, monkeypatch, helps):
    monkeypatch.setattr(member_module, "weights_help", lambda predicted, valid: (helps, "what was measured"))
    model = fitted(inputs, weighting="if_better", trees=False, members=2)
    assert any(".critics." in name for name in model.state()) == helps
    restored = RMTL(model.config, model.spec, model.initial_policy)
    restored.encoding = model.encoding
    restored.restore(model.state())
    store = inputs._store(30, 5)
    np.testing.assert_array_equal(restored.predict(store).gains_XG, model.predict(store).gains_XG)
    assert restored.summary() == model.summary()
    losses = restored.fine_tune(inputs.day_sample(model), FINE_TUNING)
    assert ("train_critics" in losses) == helps


def test_unknown_weightings_are_refused():
    with pytest.raises(UserError, match="unknown weighting 'on': choose one of none, if_better, critics, retrained"):
        RMTL.presets("kuairand")["small"].changed({"weighting": "on"})

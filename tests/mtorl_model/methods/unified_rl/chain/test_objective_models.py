"""Predictions of the objectives: of models that have not seen the user, by boosting or by another method."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from candidate_rows import store_of
from method_inputs import CandidateInputs

from mtorl_model.methods.common.label_trees import TreesConfig
from mtorl_model.methods.rmtl.method import RMTL
from mtorl_model.methods.unified_rl.chain.config import PRESETS
from mtorl_model.methods.unified_rl.chain.objective_models import (
    BoostedObjectives,
    ObjectiveModels,
    _with_objectives_as_tasks,
    half_of,
)
from mtorl_model.methods.unified_rl.method import UnifiedRL
from schemas.errors import UserError

CONFIG = PRESETS["small"].changed({"steps": 20, "rounds": 1, "critics": 2})
TINY_RMTL = RMTL.presets("kuairand")["small"].changed(
    {"members": 1, "max_epochs": 2, "batch_size": 64, "bottom": (8,), "tower": (), "experts": 2, "gain_iterations": 5,
     "min_samples_leaf": 5}
)  # fmt: skip


@pytest.mark.slow(0.5)
def test_a_training_user_has_no_prediction_of_a_model_that_saw_the_user():
    """Objectives are a coin for each user, which only a model that saw the user can know."""
    rng = np.random.default_rng(0)
    users, exposures = 300, 8
    user_N = np.repeat(np.arange(users), exposures)
    coin_N = np.repeat(rng.random(users) < 0.5, exposures)
    store = store_of(
        user_N, np.zeros((len(user_N), 1), int), user_N[:, None].astype(float), np.zeros((len(user_N), 2)), (2,),
        coin_N[:, None],
    )  # fmt: skip
    config = TreesConfig(gain_iterations=60, min_samples_leaf=1, max_leaf_nodes=200, l2_regularization=0.0)
    models, predicted_NI = ObjectiveModels.fit(store, partial(BoostedObjectives.fit, config=config))
    assert abs(np.corrcoef(predicted_NI[:, 0], coin_N)[0, 1]) < 0.2
    assert np.corrcoef(models.predict(store)[:, 0], coin_N)[0, 1] > 0.6  # half of its models saw the user
    halves = half_of(user_N).reshape(users, exposures)
    assert (halves == halves[:, :1]).all()
    assert 0.4 < halves.mean() < 0.6


def test_an_objective_that_may_still_follow_is_no_negative_label():
    """Half of the rows are so young that none of their conversions is known."""
    rows = 400
    is_young_N, converts_N = np.arange(rows) % 2 == 1, np.arange(rows) % 4 < 2  # half of either kind converts
    store = store_of(
        np.arange(rows), np.zeros((rows, 1), int), np.zeros((rows, 1)), np.zeros((rows, 2)), (2,),
        (converts_N & ~is_young_N)[:, None],
    )  # fmt: skip
    store = replace(store, objective_maturity_NI=np.where(is_young_N, 0.0, 1.0).astype(np.float32)[:, None])
    model = BoostedObjectives.fit(store, TreesConfig(gain_iterations=5, min_samples_leaf=5))
    assert model.probabilities(store) == pytest.approx(np.full((rows, 1), 0.5), abs=0.01)
    assert _with_objectives_as_tasks(store).maturity_NT is store.objective_maturity_NI


@pytest.fixture
def inputs(synthetic_lake: Any) -> CandidateInputs:
    return CandidateInputs(synthetic_lake[1])


def test_a_method_on_candidates_predicts_all_objectives_and_is_restored(inputs, monkeypatch):
    monkeypatch.setattr(RMTL, "presets", classmethod(lambda cls, dataset: {"small": TINY_RMTL}))
    model = inputs.fit(UnifiedRL, CONFIG.changed({"predictor": "rmtl"}), None)
    store = inputs.batch(model)
    predicted_NI = model.predict(store).fused.objectives_XI
    assert predicted_NI.shape == (len(store), 4)  # RMTL alone has two tasks
    for k in (0, 1):  # the labels that depend on the inputs
        assert np.corrcoef(predicted_NI[:, k], store.objectives_NI[:, k])[0, 1] > 0.2
    restored = UnifiedRL(model.config, model.spec, model.initial_policy)
    restored.encoding = model.encoding
    restored.restore(model.state())
    np.testing.assert_array_equal(restored.predict(store).fusion_XF, model.predict(store).fusion_XF)


def test_a_method_that_predicts_no_candidates_is_refused(inputs):
    for name in ("mtorl", "unified_rl"):
        with pytest.raises(UserError, match=f"the predictor {name} does not predict the outcomes of candidates"):
            inputs.fit(UnifiedRL, CONFIG.changed({"predictor": name}), 20)

"""The promises of all methods. The suite runs for every method that can be found by name."""

import copy
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from method_inputs import CandidateInputs, WindowInputs, inputs_of
from optional_methods import is_installed, parameters

from lakehouse.lake import Lake
from mtorl_model.methods import METHODS
from mtorl_model.methods.baselines.shared.network_method import NetworkMethod
from mtorl_model.methods.method import CANDIDATES, FUSION, GAINS, POLICY, VALUES, Method, Prediction
from mtorl_model.methods.model_folder import FILES, WEIGHTS, load_model, save_model
from mtorl_model.training.checksums import write_checksums
from mtorl_model.training.config import FineTuneConfig
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec

# Each method uses those of these settings that it has.
TINY = {
    "hidden": 16, "members": 2, "max_epochs": 2, "batch_size": 64, "device": "cpu", "channel_iterations": 8,
    "gain_iterations": 8, "value_iterations": 8, "bottom": (16, 8), "tower": (8,), "weighting": "critics",
    "critic_bottom": (16,), "critic_tower": (8,), "critic_epochs": 2, "critics": 2, "steps": 20, "rounds": 1,
    "evaluation_epochs": 1, "submodels": 4,
}  # fmt: skip
ENSEMBLES = ("mtorl", "rmtl", "wide_and_deep")  # the other methods have the ensembles of one of these, so one member
OVERFITS = {
    "hidden": 64, "members": 1, "max_epochs": 150, "patience": 150, "batch_size": 64, "learning_rate": 1e-2,
    "dropout": 0.0, "category_dropout": 0.0, "prior_adjustment": 0.0, "dpo_weight": 0.0, "device": "cpu", "mu": 1.0,
    "channel_iterations": 200, "gain_iterations": 200, "min_samples_leaf": 1, "l2_regularization": 0.0,
    "max_leaf_nodes": 31, "batch_norm": False, "rounds": 1, "entropy_share": 0.0, "submodels": 4,
}  # fmt: skip

# Parts of UnifiedRL other than the actor; the behaviour policy becomes the actor before the step. The tasks of RMTL.
LEARNED_IN_FULL_TRAINING = ("predictor.", "behaviour.", "weight_I", "usual_I", "static_D", "tasks")

# The networks of MTORL's baselines are smaller, because there are many: they need larger steps.
OVERFITS_BASELINES = OVERFITS | {"hidden": 32, "behaviour": 8, "unit": 8, "learning_rate": 3e-2}
EPOCHS = {"cql": 150, "din": 120, "wide_and_deep": 180, "dt": 60, "odt": 60, "star": 60, "tabm": 250}  # others: 100

NAMES = [
    "ag", "bc", "boosting", "cql", "din", "dt", "iql", "lightgbm", "mirec", "mtorl", "odt", "rbcq", "rmtl", "star",
    "tabm", "unified_rl", "wide_and_deep",
]  # fmt: skip
ON_CANDIDATES = ("rmtl", "unified_rl")
every_method = pytest.mark.parametrize("name", parameters(NAMES))
Inputs = WindowInputs | CandidateInputs


def fitted(name: str, lake: Lake, spec: FeatureSpec, settings: dict[str, Any], sessions: int | None = None) -> Method:
    """The method's preset `small` with these settings, fitted on training users.

    sessions: fit on this many windows or sessions only.
    """
    method = METHODS[name]
    config = method.presets("kuairand")["small"]
    config = config.changed({key: value for key, value in settings.items() if key in config.settings()})
    if name not in ENSEMBLES and "members" in config.settings():
        config = config.changed({"members": 1})
    return inputs_of(method, lake, spec).fit(method, config, sessions)


@pytest.fixture(scope="module")
def tiny(synthetic_lake: tuple[Lake, FeatureSpec]) -> Any:
    return cache(lambda name: fitted(name, *synthetic_lake, TINY))


@pytest.fixture
def inputs(synthetic_lake: tuple[Lake, FeatureSpec], name: str) -> Inputs:
    return inputs_of(METHODS[name], *synthetic_lake)


@pytest.fixture
def batch(inputs: Inputs, tiny: Any, name: str) -> Any:
    return inputs.batch(tiny(name))


def assert_same(prediction: Prediction, expected: Prediction, chosen_BL: Any) -> None:
    for array, expected_array in zip(prediction, expected, strict=True):
        assert (array is None) == (expected_array is None)
        if array is not None:
            np.testing.assert_allclose(array[chosen_BL], expected_array[chosen_BL], atol=1e-5)


def assert_equal(prediction: Prediction, expected: Prediction) -> None:
    """To the last bit."""
    for array, expected_array in zip(prediction, expected, strict=True):
        np.testing.assert_array_equal(array, expected_array)


def differs(first: Prediction, second: Prediction, chosen_BL: Any) -> bool:
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None]
    return any(not np.allclose(a[chosen_BL], b[chosen_BL], atol=1e-5) for a, b in pairs)


def test_this_suite_covers_all_methods() -> None:
    names = [name for name in METHODS if name in NAMES or METHODS[name].__module__.startswith("mtorl_model.")]
    assert names == NAMES
    readers = [name for name in NAMES if is_installed(name) and METHODS[name].reads == CANDIDATES]
    assert readers == list(ON_CANDIDATES)
    with pytest.raises(UserError, match=r"unknown method 'deep': choose one of ag, .*boosting, .*mtorl, .*rmtl"):
        METHODS["deep"]


@every_method
def test_it_predicts_exactly_the_kinds_that_it_lists(tiny: Any, name: str, inputs: Inputs, batch: Any) -> None:
    model = tiny(name)
    policy_BLA, gains_BLG, values_BLAG, fusion_XF = prediction = model.predict(batch)
    kinds = (POLICY, GAINS, VALUES, FUSION)
    assert model.predicts <= set(kinds)
    assert [array is not None for array in prediction] == [kind in model.predicts for kind in kinds]
    shape, spec = inputs.shape(batch), model.spec
    if policy_BLA is not None:
        assert policy_BLA.shape == (*shape, len(spec.channels))
        assert (policy_BLA >= 0).all()
        np.testing.assert_allclose(policy_BLA.sum(axis=-1), 1.0, atol=1e-12)
    if gains_BLG is not None:
        assert gains_BLG.shape == (*shape, len(spec.gains))
        assert ((gains_BLG >= 0) & (gains_BLG <= 1)).all()
    if values_BLAG is not None:
        assert values_BLAG.shape == (*shape, len(spec.channels), len(spec.gains))
        assert ((values_BLAG >= 0) & (values_BLAG <= 1)).all()
    if fusion_XF is not None:
        score_X, objectives_XI, power_XI, bias_XI, _, _ = prediction.fused
        assert score_X.shape == shape
        assert objectives_XI.shape == power_XI.shape == bias_XI.shape == (*shape, 4)
        assert ((objectives_XI >= 0) & (objectives_XI <= 1)).all()
        assert ((power_XI > 0) & (power_XI < 2)).all()


@every_method
def test_no_step_reads_a_later_one_or_a_label(tiny: Any, name: str, inputs: Inputs, batch: Any) -> None:
    model = tiny(name)
    changed_batch, earlier_X, changed_X = inputs.changed_from_a_step_on(batch)
    assert earlier_X.any()
    assert_same(model.predict(changed_batch), model.predict(batch), earlier_X)
    # The inputs of the step itself are read.
    assert differs(model.predict(changed_batch), model.predict(batch), changed_X)


@every_method
def test_padding_and_other_sessions_are_never_read(tiny: Any, name: str, inputs: Inputs, batch: Any) -> None:
    model, real_X = tiny(name), inputs.real(batch)
    assert not real_X.all()
    for prediction in inputs.predictions_that_agree(model, batch):
        assert_same(prediction, model.predict(batch), real_X)
        assert all(np.isfinite(array[real_X]).all() for array in prediction if array is not None)
    spoiled = inputs.predictions_that_agree(model, batch)[0]
    assert all(np.isfinite(array).all() for array in spoiled if array is not None)


@pytest.mark.parametrize("name", parameters(name for name in NAMES if name not in ON_CANDIDATES))
def test_predict_last_agrees_with_predict(tiny: Any, name: str, batch: Any) -> None:
    model = tiny(name)
    all_steps, last = model.predict(batch), model.predict_last(batch)
    assert [array is None for array in last] == [array is None for array in all_steps]
    for array, expected in zip(last, all_steps, strict=True):
        if array is not None:
            np.testing.assert_allclose(array[:, -1], expected[:, -1], atol=1e-5)
    assert all(array is None or array.shape[1] == 1 for array in (last.policy_XA, last.values_XAG))
    if last.gains_XG is not None:
        assert last.gains_XG.shape == all_steps.gains_XG.shape
        assert ((last.gains_XG >= 0) & (last.gains_XG <= 1)).all()


@every_method
def test_one_seed_gives_one_set_of_predictions(
    tiny: Any, name: str, batch: Any, synthetic_lake: tuple[Lake, FeatureSpec]
) -> None:
    refitted = fitted(name, *synthetic_lake, TINY)
    assert refitted.state().keys() == tiny(name).state().keys()
    for key, array in refitted.state().items():
        np.testing.assert_array_equal(array, tiny(name).state()[key], err_msg=key)
    assert_equal(refitted.predict(batch), tiny(name).predict(batch))


@every_method
def test_a_loaded_model_equals_the_saved_one(tiny: Any, name: str, batch: Any, tmp_path: Path) -> None:
    model = tiny(name)
    save_model(tmp_path, model)
    loaded = load_model(tmp_path)
    assert type(loaded) is type(model)
    assert (loaded.config, loaded.spec, loaded.initial_policy) == (model.config, model.spec, model.initial_policy)
    assert loaded.summary() == model.summary()
    assert_equal(loaded.predict(batch), model.predict(batch))


class _Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.mkdir, (self.path,))


@every_method
def test_a_folder_with_code_or_other_weights_is_refused(tiny: Any, name: str, tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny(name))
    (tmp_path / "model" / WEIGHTS).write_bytes(pickle.dumps({"weight": _Code(tmp_path / "executed")}))
    write_checksums(tmp_path / "model", FILES)
    with pytest.raises(UserError, match="not a file of plain tensors"):
        load_model(tmp_path / "model")
    assert not (tmp_path / "executed").exists()
    torch.save({"other": torch.zeros(1)}, tmp_path / "model" / WEIGHTS)
    write_checksums(tmp_path / "model", FILES)
    with pytest.raises(UserError, match="does not fit"):
        load_model(tmp_path / "model")


@every_method
def test_one_huge_step_moves_every_array_of_the_state(
    tiny: Any, name: str, inputs: Inputs, synthetic_lake: tuple[Lake, FeatureSpec]
) -> None:
    # A step changes neither trees nor numbers that are chosen after a training.
    has_trees = "trees" in tiny(name).config.settings()
    model = fitted(name, *synthetic_lake, TINY | {"trees": False}) if has_trees else copy.deepcopy(tiny(name))
    sample = inputs.day_sample(model)
    config = FineTuneConfig(learning_rate=100.0, batch_size=128, max_steps=1, gradient_clip=0.0, device="cpu")
    if not model.fine_tunes:
        with pytest.raises(NotImplementedError, match=f"{name} is not fine-tuned"):
            model.fine_tune(sample, config)
        return
    old_state = {key: array.copy() for key, array in model.state().items()}
    losses = model.fine_tune(sample, config)
    assert np.isfinite(list(losses.values())).all()
    unmoved = [key for key, array in model.state().items() if np.array_equal(array, old_state.get(key))]
    assert [key for key in unmoved if not key.startswith(("chosen.", *LEARNED_IN_FULL_TRAINING))] == []


@pytest.mark.slow
@every_method
def test_it_overfits_64_sessions(name: str, inputs: Inputs, synthetic_lake: tuple[Lake, FeatureSpec]) -> None:
    is_baseline = issubclass(METHODS[name], NetworkMethod)
    settings = OVERFITS_BASELINES | {"max_epochs": EPOCHS.get(name, 100)} if is_baseline else OVERFITS
    model = fitted(name, *synthetic_lake, settings, sessions=64)
    (policy_NA, gains_NG, values_NAG, *_), action_N, gained_NG = inputs.labels(model, 64)
    if name == "mirec":  # its policy keeps shares of exposure and does not imitate the log
        policy_NA, gains_NG = None, np.take_along_axis(values_NAG, action_N[:, None, None].astype(int), axis=1)[:, 0]
    if policy_NA is not None:
        chosen_N = np.take_along_axis(policy_NA, action_N[:, None].astype(int), axis=1)
        assert -np.log(chosen_N).mean() < 0.1
    if gains_NG is not None:
        p_NG = np.where(gained_NG > 0, gains_NG, 1 - gains_NG)
        assert -np.log(p_NG).mean() < 0.1

"""The promises of all methods. The suite runs for every method that can be found by name."""

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_batch import pad_left, with_garbage

from lakehouse.lake import Lake
from mtorl_model.data.batch import Batch
from mtorl_model.data.delayed_feedback import WITHOUT_DELAY, LabelCutoff
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.window_store import WindowsInMemory, WindowStore, open_windows
from mtorl_model.methods import METHODS
from mtorl_model.methods.method import GAINS, POLICY, VALUES, Method, Prediction, Run
from mtorl_model.methods.model_folder import WEIGHTS, load_model, save_model
from mtorl_model.training.config import FineTuneConfig
from mtorl_model.training.day_sample import DaySample
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec

KUAIRAND = get_dataset("kuairand")
FLOAT_INPUTS = ("numeric_BLF", "action_in_BLA", "reward_in_BLR")
# Each method uses those of these settings that it has.
TINY = {
    "hidden": 16, "members": 2, "max_epochs": 2, "batch_size": 64, "device": "cpu", "channel_iterations": 8,
    "gain_iterations": 8, "value_iterations": 8,
}  # fmt: skip
OVERFITS = {
    "hidden": 64, "members": 1, "max_epochs": 150, "patience": 150, "batch_size": 64, "learning_rate": 1e-2,
    "dropout": 0.0, "category_dropout": 0.0, "prior_adjustment": 0.0, "dpo_weight": 0.0, "device": "cpu", "mu": 1.0,
    "channel_iterations": 200, "gain_iterations": 200, "min_samples_leaf": 1, "l2_regularization": 0.0,
    "max_leaf_nodes": 31,
}  # fmt: skip

every_method = pytest.mark.parametrize("name", ["boosting", "mtorl"])


def fitted(name: str, lake: Lake, spec: FeatureSpec, settings: dict[str, Any], windows: int | None = None) -> Method:
    """The method's preset `small` with these settings, fitted on training users. windows: fit on this many only."""
    method = METHODS[name]
    config = method.presets("kuairand")["small"]
    config = config.changed({key: value for key, value in settings.items() if key in config.settings()})
    encoder = Encoder(spec, KUAIRAND, config.reward_inputs)
    train, valid = (open_windows(lake, encoder, spec.first_day, spec.last_day, s) for s in ("train", "validation"))
    if windows is not None:
        train = valid = WindowsInMemory(train.windows.take(slice(0, windows)))
    return method(config, spec, fit_initial_policy(train, spec)).fit(train, valid, Run())


@pytest.fixture(scope="module")
def tiny(synthetic_lake: tuple[Lake, FeatureSpec]) -> Any:
    return cache(lambda name: fitted(name, *synthetic_lake, TINY))


def store_of(model: Method, lake: Lake, split: str = "validation") -> WindowStore:
    return open_windows(lake, model.encoder(KUAIRAND), model.spec.first_day, model.spec.last_day, split)


@pytest.fixture
def batch(synthetic_lake: tuple[Lake, FeatureSpec], tiny: Any, name: str) -> Batch:
    return next(store_of(tiny(name), synthetic_lake[0]).in_order(12))


def assert_same(prediction: Prediction, expected: Prediction, chosen_BL: Any) -> None:
    for array, expected_array in zip(prediction, expected, strict=True):
        assert (array is None) == (expected_array is None)
        if array is not None:
            np.testing.assert_allclose(array[chosen_BL], expected_array[chosen_BL], atol=1e-5)


def differs(first: Prediction, second: Prediction, chosen_BL: Any) -> bool:
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None]
    return any(not np.allclose(a[chosen_BL], b[chosen_BL], atol=1e-5) for a, b in pairs)


def test_this_suite_covers_all_methods() -> None:
    names = [name for name in METHODS if METHODS[name].__module__.startswith("mtorl_model.")]
    assert every_method.args[1] == names
    with pytest.raises(UserError, match=r"unknown method 'deep': choose one of boosting, .*mtorl"):
        METHODS["deep"]


@every_method
def test_it_predicts_exactly_the_kinds_that_it_lists(tiny: Any, name: str, batch: Batch) -> None:
    model = tiny(name)
    policy_BLA, gains_BLG, values_BLAG = prediction = model.predict(batch)
    kinds = (POLICY, GAINS, VALUES)
    assert model.predicts <= set(kinds)
    assert [array is not None for array in prediction] == [kind in model.predicts for kind in kinds]
    shape, spec = tuple(batch.valid_BL.shape), model.spec
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


@every_method
def test_no_step_reads_a_later_one_or_a_label(tiny: Any, name: str, batch: Batch) -> None:
    model, step = tiny(name), 15
    changed = {key: getattr(batch, key).clone() for key in FLOAT_INPUTS}
    for tensor in changed.values():
        tensor[:, step:] += 3.0
    changed_batch = batch._replace(
        **changed, action_BL=1 - batch.action_BL, gains_BLG=1 - batch.gains_BLG, reward_BL=1 - batch.reward_BL
    )
    earlier_BL = np.zeros(batch.valid_BL.shape, bool)
    earlier_BL[:, :step] = batch.valid_BL[:, :step]
    assert earlier_BL.any()
    assert_same(model.predict(changed_batch), model.predict(batch), earlier_BL)
    changed_step_BL = np.zeros(batch.valid_BL.shape, bool)
    changed_step_BL[:, step] = batch.valid_BL[:, step]
    # The inputs of the step itself are read.
    assert differs(model.predict(changed_batch), model.predict(batch), changed_step_BL)


@every_method
def test_padding_is_never_read(tiny: Any, name: str, batch: Batch) -> None:
    model = tiny(name)
    real_BL = batch.valid_BL.numpy()
    assert not real_BL.all()
    spoiled = model.predict(with_garbage(batch))
    assert_same(spoiled, model.predict(batch), real_BL)
    assert all(np.isfinite(array).all() for array in spoiled if array is not None)
    longer = model.predict(pad_left(batch, 7))
    assert_same(Prediction(*(None if a is None else a[:, 7:] for a in longer)), model.predict(batch), real_BL)


@every_method
def test_predict_last_agrees_with_predict(tiny: Any, name: str, batch: Batch) -> None:
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
    tiny: Any, name: str, batch: Batch, synthetic_lake: tuple[Lake, FeatureSpec]
) -> None:
    refitted = fitted(name, *synthetic_lake, TINY)
    assert refitted.state().keys() == tiny(name).state().keys()
    for key, array in refitted.state().items():
        np.testing.assert_array_equal(array, tiny(name).state()[key], err_msg=key)
    for array, expected in zip(refitted.predict(batch), tiny(name).predict(batch), strict=True):
        np.testing.assert_array_equal(array, expected)


@every_method
def test_a_loaded_model_equals_the_saved_one(tiny: Any, name: str, batch: Batch, tmp_path: Path) -> None:
    model = tiny(name)
    save_model(tmp_path, model)
    loaded = load_model(tmp_path)
    assert type(loaded) is type(model)
    assert (loaded.config, loaded.spec, loaded.initial_policy) == (model.config, model.spec, model.initial_policy)
    assert loaded.summary() == model.summary()
    for array, expected in zip(loaded.predict(batch), model.predict(batch), strict=True):
        np.testing.assert_array_equal(array, expected)


class _Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.mkdir, (self.path,))


@every_method
def test_a_folder_with_code_or_other_weights_is_refused(tiny: Any, name: str, tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny(name))
    (tmp_path / "model" / WEIGHTS).write_bytes(pickle.dumps({"weight": _Code(tmp_path / "executed")}))
    with pytest.raises(UserError, match="not a file of plain tensors"):
        load_model(tmp_path / "model")
    assert not (tmp_path / "executed").exists()
    torch.save({"other": torch.zeros(1)}, tmp_path / "model" / WEIGHTS)
    with pytest.raises(UserError, match="does not fit"):
        load_model(tmp_path / "model")


@every_method
def test_one_huge_step_moves_every_array_of_the_state(name: str, synthetic_lake: tuple[Lake, FeatureSpec]) -> None:
    model = fitted(name, *synthetic_lake, TINY | {"trees": False})  # trees learn no steps
    windows = store_of(model, synthetic_lake[0], "train").windows.take(slice(0, 64))
    no_windows = windows.take(slice(0, 0))
    sample = DaySample(windows, no_windows, WindowsInMemory(no_windows), LabelCutoff(0, {"click": WITHOUT_DELAY}), {})
    config = FineTuneConfig(learning_rate=100.0, batch_size=128, max_steps=1, gradient_clip=0.0, device="cpu")
    if not model.fine_tunes:
        with pytest.raises(NotImplementedError, match=f"{name} is not fine-tuned"):
            model.fine_tune(sample, config)
        return
    old_state = {key: array.copy() for key, array in model.state().items()}
    losses = model.fine_tune(sample, config)
    assert np.isfinite(list(losses.values())).all()
    unmoved = [key for key, array in model.state().items() if np.array_equal(array, old_state[key])]
    assert unmoved == []


@pytest.mark.slow
@every_method
def test_it_overfits_64_windows(name: str, synthetic_lake: tuple[Lake, FeatureSpec]) -> None:
    model = fitted(name, *synthetic_lake, OVERFITS, windows=64)
    windows = store_of(model, synthetic_lake[0], "train").windows.take(slice(0, 64))
    label = windows.label_NL
    policy_NA, gains_NG, _ = model.predict(windows.batch()).take(label)
    if policy_NA is not None:
        chosen_N = np.take_along_axis(policy_NA, windows.action_NL[label][:, None].astype(int), axis=1)
        assert -np.log(chosen_N).mean() < 0.1
    if gains_NG is not None:
        gained_NG = windows.gains_NLG[label]
        p_NG = np.where(gained_NG > 0, gains_NG, 1 - gains_NG)
        assert -np.log(p_NG).mean() < 0.1

"""Trees beside the networks of MTORL: a switch, blended with the networks, and fitted again with a day's labels."""

import numpy as np
import pytest

from features.logistic import log_odds
from lakehouse.lake import Lake
from mtorl_model.data.delayed_feedback import WITHOUT_DELAY, LabelCutoff
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.windows.store import WindowsInMemory, open_windows
from mtorl_model.methods.method import VALUES, Run
from mtorl_model.methods.mtorl.config import preset
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.training.config import FineTuneConfig
from mtorl_model.training.day_sample import DaySample
from schemas.dataset import get_dataset
from schemas.tables.feature_spec import FeatureSpec

TINY = {"hidden": 16, "members": 1, "max_epochs": 1, "device": "cpu", "channel_iterations": 8, "gain_iterations": 8,
        "value_iterations": 8}  # fmt: skip
KUAIRAND = get_dataset("kuairand")


def fitted(lake: Lake, spec: FeatureSpec, **settings: object) -> tuple[MTORL, list[WindowsInMemory]]:
    config = preset("small", "kuairand").changed(TINY | settings)
    encoder = Encoder(spec, KUAIRAND, config.reward_inputs)
    stores = [open_windows(lake, encoder, spec.first_day, spec.last_day, split) for split in ("train", "validation")]
    return MTORL(config, spec, fit_initial_policy(stores[0], spec)).fit(*stores, Run()), stores


@pytest.fixture(scope="module")
def with_trees(synthetic_lake):
    return fitted(*synthetic_lake)


def test_without_trees_it_is_the_papers_method(synthetic_lake, with_trees):
    model, _ = fitted(*synthetic_lake, trees=False)
    assert VALUES not in model.predicts
    assert not any(name.startswith(("trees", "blend", "values")) for name in model.state())
    for name, weight in model.state().items():
        np.testing.assert_array_equal(weight, with_trees[0].state()[name], err_msg=name)  # the same networks


def test_gains_are_the_blend_of_networks_and_trees(with_trees):
    model, (train, _) = with_trees
    windows = train.windows.take(slice(0, 30))
    networks = model._networks_prediction(windows.batch())
    trees_NG = model.trees.gain_probabilities(windows.label_features())
    label_NL = windows.label_NL
    blended_NG = model.predict(windows.batch()).gains_XG[label_NL]
    weights_GK, constants_G = model.blend.gain_GK, model.blend.constant_G
    expected_NG = (
        weights_GK[:, 0] * log_odds(networks.gains_XG[label_NL]) + weights_GK[:, 1] * log_odds(trees_NG) + constants_G
    )
    np.testing.assert_allclose(log_odds(blended_NG), expected_NG, atol=1e-9)


def test_a_day_fits_trees_and_values_again_but_not_the_blend(with_trees):
    model, (train, valid) = with_trees
    config = FineTuneConfig(learning_rate=1e-9, batch_size=32, max_steps=1, device="cpu")
    new = train.windows.take(slice(0, 16))
    no_windows = new.take(slice(0, 0))
    cutoff = LabelCutoff(0, {"click": WITHOUT_DELAY})
    batch = new.batch()
    predictions = [model.predict(batch)]
    for latest in (no_windows, valid.windows.take(slice(None))):
        old_state = model.state()
        model.fine_tune(DaySample(new, no_windows, WindowsInMemory(latest), cutoff, {}), config)
        predictions.append(model.predict(batch))
        np.testing.assert_array_equal(model.state()["blend.gains"], old_state["blend.gains"])
    np.testing.assert_allclose(predictions[1].gains_XG, predictions[0].gains_XG, atol=1e-5)  # nothing to fit on
    assert np.abs(predictions[2].gains_XG - predictions[0].gains_XG).max() > 0.01
    assert np.abs(predictions[2].values_XAG - predictions[0].values_XAG).max() > 0.01

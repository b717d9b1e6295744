"""The published protocol on a small lake: its scores, and the share of leaked steps."""

import numpy as np
import pytest
from optional_methods import parameters
from sklearn.metrics import f1_score
from synthetic import write_lake

from mtorl_model.methods import METHODS
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.studies import position_scores as scores
from mtorl_model.studies.baselines.spaces import RIVALS
from mtorl_model.studies.published import as_text, run_published
from mtorl_model.training.config import TrainConfig
from schemas.dataset import get_dataset

KUAIRAND = get_dataset("kuairand")
N = 6


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return write_lake(tmp_path_factory.mktemp("lake"), users=30)


def test_scores_are_means_over_positions():
    rng = np.random.default_rng(2)
    action, guess, label = rng.integers(0, 3, (40, 5)), rng.integers(0, 3, (40, 5)), rng.random((40, 5)) < 0.8
    label[:, 0] = False
    expected = np.mean([f1_score(action[label[:, t], t], guess[label[:, t], t], average="macro") for t in range(1, 5)])
    assert scores.position_scores(action, guess, label)["f1_macro"] == pytest.approx(expected)


def test_the_results_contain_the_share_of_leaked_steps(lake, monkeypatch):
    monkeypatch.setattr(scores, "_REPLICATES", 20)
    train = TrainConfig(batch_size=64, max_epochs=2, device="cpu")
    config = MTORLConfig(ModelConfig(hidden=16, steps=N), LossConfig(), train)
    results = run_published(*lake[:1], KUAIRAND, lake[1], "mtorl", config, windows=300)
    assert 0.5 < results["share_of_test_steps_also_in_training"] < 1
    assert results["paper"]["f1_macro"] == 0.6793
    assert "leaks" in as_text(results)
    assert as_text(results).count("paper:") == 3


@pytest.mark.parametrize("method", parameters(["boosting", "din", *RIVALS]))
def test_other_methods_are_measured_on_the_same_windows(lake, monkeypatch, method):
    monkeypatch.setattr(scores, "_REPLICATES", 20)
    small = {
        "hidden": 8,
        "max_epochs": 1,
        "batch_size": 64,
        "device": "cpu",
        "channel_iterations": 4,
        "gain_iterations": 2,
    }
    config = METHODS[method].presets("kuairand")["small"]
    config = config.changed({name: value for name, value in small.items() if name in config.settings()})
    results = run_published(*lake[:1], KUAIRAND, lake[1], method, config, windows=300)
    assert (results["method"], results["epochs"]) == (method, 1 if "max_epochs" in config.settings() else 0)
    assert results["paper"] == (
        {"f1_macro": 0.5649, "precision_macro": 0.5692, "recall_macro": 0.5669} if method == "din" else None
    )
    assert results["share_of_test_steps_also_in_training"] > 0.5

"""The figures that benchmarks.training prints, on a few small windows."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import training
from benchmarks.inputs.random_windows import SIZES, write_windows
from benchmarks.training import count_step_flops
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, preset
from mtorl_model.methods.mtorl.network import Network


def test_the_operations_of_a_step_are_those_of_its_matrix_products(tmp_path: Path):
    """Counted by hand for the linear layers outside the attention. A backward pass is two forward passes."""
    config = ModelConfig(hidden=16, use_state_encoder=False, use_attention=False, addnorm_layers=1, reward_layers=1)
    batch = next(write_windows(tmp_path / "windows", 8, 20).in_order(8))
    model, rows, d = Network(config, SIZES), 8 * 20, 16
    features = model.input.in_features
    inner = 2 * d * d + d * SIZES.actions + d * SIZES.gains  # Add&Norm, reward layer, and the two heads
    # Embeddings come before the first layer, so its inputs have gradients as well.
    assert count_step_flops(model, batch, LossConfig()) == 3 * 2 * rows * (features * d + inner)


def test_random_windows_are_valid(tmp_path: Path):
    store = write_windows(tmp_path / "windows", 40, 20)
    batch = next(store.in_order(40))
    assert batch.label_BL.any(dim=1).all()
    assert batch.valid_BL[batch.label_BL].all()
    assert not batch.valid_BL.all()
    assert batch.numeric_BLF.shape == (40, 20, SIZES.numeric)
    assert (batch.categorical_BLK.amax(dim=(0, 1)) < torch.tensor(SIZES.vocabulary)).all()


@pytest.mark.slow
def test_the_last_line_is_the_figures(monkeypatch, capsys):
    arguments = ["--preset", "small", "--device", "cpu", "--windows", "128", "--seconds", "0.2", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["training", *arguments])
    training.main()
    figures = json.loads(capsys.readouterr().out)
    assert figures["preset"] == "small"
    assert figures["device"].startswith("cpu")
    for name in (
        "windows_per_second",
        "plain_windows_per_second",
        "times_plain",
        "gflop_per_step",
        "share_of_multiply",
        "gather_ms_per_batch",
    ):
        assert figures[name] > 0
    assert figures["gather_ms_per_batch"] < figures["ms_per_step"]
    # 13 categories, 66 + 11 + 3 + 2 x 2 numbers, a channel, a reward and a propensity of 4 bytes; 1 byte for a channel.
    assert figures["cache_MiB_per_million_steps"] * 2**20 == pytest.approx(1e6 * (4 * (13 + 84 + 3) + 1))
    assert figures["ms_per_step"] * figures["windows_per_second"] == pytest.approx(128_000)


@pytest.mark.slow
def test_a_full_training_goes_to_its_end():
    figures = training.measure_full("small", 100, torch.device("cpu"))
    config = preset("small", "criteo").train
    assert config.patience < figures["epochs"] <= config.max_epochs
    assert figures["windows_per_second"] == pytest.approx(100 * figures["epochs"] / figures["seconds"])


def test_the_plain_loop_trains_the_same_model(tmp_path: Path):
    config = ModelConfig(hidden=16, dropout=0.0)
    store = write_windows(tmp_path / "windows", 64, 20)
    model = Network(config, SIZES)
    initial = {name: weight.clone() for name, weight in model.state_dict().items()}
    windows = training.plain_loop(model, store.batches(32, seed=0, epoch=0), LossConfig(), torch.device("cpu"))
    assert windows == 64
    assert all(not weight.equal(initial[name]) for name, weight in model.state_dict().items())

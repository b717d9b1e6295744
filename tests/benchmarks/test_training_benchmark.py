"""What benchmarks.training tells, on a few small windows; and how it sorts a GPU's time, which needs no GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import training
from benchmarks.training import SIZES, Kernel, flops_of_a_step, shares, write_windows
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, preset
from mtorl_model.methods.mtorl.network import Network
from schemas.errors import UserError

ROOT = Path(__file__).parents[2]


def test_a_gpus_time_is_matrix_products_other_kernels_and_waiting():
    kernels = [
        Kernel("sm90_xmma_gemm_bf16bf16_bf16f32", 100.0, 150.0),
        Kernel("triton_poi_fused_add_leaky_relu_3", 160.0, 180.0),  # 10 after the one before
        Kernel("void multi_tensor_apply_kernel", 170.0, 190.0),  # half of it beside the one before
        Kernel("fmha_cutlassB_bf16_aligned_64x64_k64_sm80", 190.0, 200.0),
        # Named after what it follows, or after what it does: neither multiplies.
        Kernel("triton_poi_fused_convolution_3", 200.0, 205.0),
        Kernel("void convert_to_bf16_kernel", 205.0, 210.0),
        Kernel("triton_tem_fused_addmm_2", 210.0, 240.0),
    ]
    got = shares(reversed(kernels))
    assert got == pytest.approx({"matrix_multiply_share": 90 / 140, "memory_share": 40 / 140, "launch_share": 10 / 140})
    with pytest.raises(UserError, match="the profiler saw no kernel"):
        shares([])


def test_a_steps_operations_are_those_of_its_matrix_products(tmp_path: Path):
    """Counted by hand for the linear layers outside the attention; a backward is twice a forward but for the input."""
    config = ModelConfig(hidden=16, use_state_encoder=False, use_attention=False, addnorm_layers=1, reward_layers=1)
    batch = next(write_windows(tmp_path / "windows", 8, 20).in_order(8))
    model, rows, d = Network(config, SIZES), 8 * 20, 16
    features = model.input.in_features
    inner = 2 * d * d + d * SIZES.actions + d * SIZES.gains  # Add&Norm, reward layer, and the two heads
    # Embeddings come first, so that the inputs of the first layer have gradients as well.
    assert flops_of_a_step(model, batch, LossConfig()) == 3 * 2 * rows * (features * d + inner)


def test_random_windows_are_windows(tmp_path: Path):
    store = write_windows(tmp_path / "windows", 40, 20)
    batch = next(store.in_order(40))
    assert batch.label_BL.any(dim=1).all()
    assert batch.valid_BL[batch.label_BL].all()
    assert not batch.valid_BL.all()
    assert batch.numeric_BLF.shape == (40, 20, SIZES.numeric)
    assert (batch.categorical_BLK.amax(dim=(0, 1)) < torch.tensor(SIZES.vocabulary)).all()


@pytest.mark.slow
def test_the_last_line_is_a_json_of_figures():
    command = (sys.executable, "-m", "benchmarks.training", "--preset", "small", "--device", "cpu", "--windows", "256",
               "--seconds", "0.2", "--rounds", "1")  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["preset"] == "small"
    assert figures["device"].startswith("cpu")
    for name in (
        "windows_per_second",
        "plain_windows_per_second",
        "times_plain",
        "gflop_per_step",
        "share_of_multiply",
    ):
        assert figures[name] > 0
    assert figures["ms_per_step"] * figures["windows_per_second"] == pytest.approx(128_000)


def test_a_full_training_goes_to_its_end():
    figures = training.full("small", 100, torch.device("cpu"))
    config = preset("small", "criteo").train
    assert config.patience < figures["epochs"] <= config.max_epochs
    assert figures["windows_per_second"] == pytest.approx(100 * figures["epochs"] / figures["seconds"])


def test_the_plain_loop_trains_the_same_model(tmp_path: Path):
    config = ModelConfig(hidden=16, dropout=0.0)
    store = write_windows(tmp_path / "windows", 64, 20)
    model = Network(config, SIZES)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    windows = training.plain_loop(model, store.batches(32, seed=0, epoch=0), LossConfig(), torch.device("cpu"))
    assert windows == 64
    assert all(not weight.equal(before[name]) for name, weight in model.state_dict().items())

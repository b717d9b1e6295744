"""Measures the training's windows per second, compared with a plain loop and with the machine's matrix products.

python -m benchmarks.training --preset small|paper [--seconds 10] [--rounds 3] [--device auto] [--full USERS]

Random windows with the sizes of Criteo's are read from files as in production. Four things are measured in each round,
each for about --seconds except the loader:
- the training loop of the pipeline (training.loop.fit);
- a plain eager loop of the same model on the same batches: Adam updates each tensor separately, every tensor is copied
  separately, in float32, and the loss is read at each step;
- the loader alone: a batch of windows is gathered from the files of steps, and nothing is computed with it;
- matrix products: on a CPU in float32 and of the model's size; on a GPU in bfloat16 and so large that only its
  arithmetic units limit them.
An additional first round is not counted. The last line of the output is a JSON object with medians over the rounds. On
a GPU it also has the shares of a step's time.

--full USERS measures one training to its end instead, on one window per user, with an eighth as many users for
validation.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_kernels import profiled, time_shares
from benchmarks.inputs.random_windows import SIZES, write_windows
from benchmarks.machine import device_name
from lakehouse.arguments import require_at_least
from mtorl_model.data.batch import Batch
from mtorl_model.data.device import choose_device
from mtorl_model.data.windows.encoded_steps import StepArrays, WindowArrays
from mtorl_model.methods.mtorl.config import PRESETS, LossConfig, ModelConfig, preset
from mtorl_model.methods.mtorl.losses import MTORLLoss, draw_pairs, total_loss
from mtorl_model.methods.mtorl.network import Network
from mtorl_model.training.config import TrainConfig
from mtorl_model.training.loop import fit
from schemas.errors import exit_with_one_line

_WINDOWS = {"cpu": 2048, "cuda": 65_536}  # of an epoch, so that it takes seconds
_VALIDATION_WINDOWS = 8  # few, because validation is not measured
_MATRIX_SIZE = 8192  # rows and columns of the matrices that measure a GPU's own rate
_MAX_MULTIPLY_S = 3.0


def plain_loop(model: Network, batches: Iterable[Batch], loss_config: LossConfig, device: torch.device) -> int:
    """Train as in a notebook; the number of windows."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, foreach=False, fused=False)
    generator, windows, losses = torch.Generator(device), 0, 0.0
    model.train()
    for batch in batches:
        batch = Batch(*(tensor.to(device) for tensor in batch))
        optimizer.zero_grad()
        total = total_loss(model(batch), batch, loss_config, model.form, draw_pairs(batch, generator)).total
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses += total.item()
        windows += len(batch.label_BL)
    return windows


def count_step_flops(model: Network, batch: Batch, loss_config: LossConfig) -> int:
    """Floating-point operations of the matrix products of a step, forward and backward, on the CPU."""
    with FlopCounterMode(display=False) as counter:
        pairs = draw_pairs(batch, torch.Generator())
        total_loss(model.train()(batch), batch, loss_config, model.form, pairs).total.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def multiply_rate(rows: int, size: int, device: torch.device, seconds: float) -> float:
    """Floating-point operations per second of (rows, size) x (size, size), measured for `seconds`."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = torch.randn(rows, size, device=device, dtype=dtype), torch.randn(size, size, device=device)
    right, products, repeats = right.to(dtype), 0, 1
    start = _now(device)
    while (elapsed := _now(device) - start) < seconds:
        for _ in range(repeats):
            left @ right
        products += repeats
        repeats = min(2 * repeats, 1000)  # the clock is read so rarely that it costs no time
    return 2.0 * rows * size * size * products / elapsed


def measure(name: str, seconds: float, rounds: int, device: torch.device, windows: int) -> dict[str, Any]:
    """The figures of a preset. Rates are medians over the rounds."""
    settings = preset(name, "criteo")
    model_config, loss_config = settings.model, settings.loss
    config = replace(settings.train, device=device.type, max_epochs=1, patience=1, seed=0, keep="last")
    batch_size, objective = config.batch_size, _objective(model_config, loss_config)
    with tempfile.TemporaryDirectory() as folder:
        train = write_windows(Path(folder, "train"), windows, model_config.steps)
        valid = write_windows(Path(folder, "valid"), _VALIDATION_WINDOWS, model_config.steps)
        batch, cache_sizes = next(train.in_order(batch_size)), _cache_sizes(Path(folder, "train"))
        flops_per_window = count_step_flops(_new(model_config), batch, loss_config) / len(batch.label_BL)
        product_network, plain_network = _new(model_config).to(device), _new(model_config).to(device)

        def train_product(epochs: int) -> None:
            fit(product_network, train, valid, objective, replace(config, max_epochs=epochs, patience=epochs))

        def train_plain(epochs: int) -> None:
            for epoch in range(epochs):
                plain_loop(plain_network, train.batches(batch_size, seed=0, epoch=epoch), loss_config, device)

        def gather(epochs: int) -> None:
            for epoch in range(epochs):
                for _ in train.batches(batch_size, seed=0, epoch=epoch):
                    pass

        model_shape = (batch_size * model_config.steps, model_config.hidden)
        matrix_shape = (_MATRIX_SIZE, _MATRIX_SIZE) if device.type == "cuda" else model_shape
        multiply_s = min(seconds, _MAX_MULTIPLY_S)
        product_rates, plain_rates, gather_rates, multiply_rates = [], [], [], []
        gpu_figures: dict[str, float] = {}
        epochs = 1
        for number in range(rounds + 1):
            _gpu_peak(device)
            product_rate = _rate(train_product, epochs, len(train), device)
            gpu_figures |= _gpu_peak(device)
            plain_rate = _rate(train_plain, epochs, len(train), device)
            gather_rate = _rate(gather, 1, len(train), device)
            flops = multiply_rate(*matrix_shape, device, multiply_s)
            if number == 0:  # this round compiles and warms up, and shows how many epochs take the wanted time
                epochs = max(1, round(seconds * product_rate / len(train)))
                continue
            product_rates.append(product_rate)
            plain_rates.append(plain_rate)
            gather_rates.append(gather_rate)
            multiply_rates.append(flops)
        if device.type == "cuda":
            model_size_flops = multiply_rate(*model_shape, device, multiply_s)
            gpu_figures |= {"multiply_gflop_per_second_at_model_size": model_size_flops / 1e9}
            gpu_figures |= time_shares(profiled(lambda: train_product(1)))
    return {
        "preset": name,
        "device": _device_name(device),
        "windows_per_second": median(product_rates),
        "plain_windows_per_second": median(plain_rates),
        "times_plain": median(a / b for a, b in zip(product_rates, plain_rates, strict=True)),
        "ms_per_step": 1000 * batch_size / median(product_rates),
        "gather_ms_per_batch": 1000 * batch_size / median(gather_rates),
        **cache_sizes,
        "gflop_per_step": flops_per_window * batch_size / 1e9,
        "multiply_gflop_per_second": median(multiply_rates) / 1e9,
        "share_of_multiply": median(
            flops_per_window * a / b for a, b in zip(product_rates, multiply_rates, strict=True)
        ),
        **gpu_figures,
    }


def measure_full(name: str, users: int, device: torch.device) -> dict[str, Any]:
    """The cost of a training to its end: of one member, on one window per user, without checkpoints."""
    config = preset(name, "criteo")
    with tempfile.TemporaryDirectory() as folder:
        train = write_windows(Path(folder, "train"), users, config.steps)
        valid = write_windows(Path(folder, "valid"), max(1, users // 8), config.steps)
        _gpu_peak(device)
        start = _now(device)
        objective = _objective(config.model, config.loss)
        history = fit(_new(config.model), train, valid, objective, replace(config.train, device=device.type))
        seconds = _now(device) - start
    return {
        "preset": name,
        "device": _device_name(device),
        "users": users,
        "seconds": seconds,
        "epochs": len(history.epochs),
        "windows_per_second": len(history.epochs) * users / seconds,
        **_gpu_peak(device),
    }


def _cache_sizes(folder: Path) -> dict[str, float]:
    """The bytes of encoded steps, each stored once, and of a window that refers to them. folder: of write_windows."""
    steps, windows = (
        [np.load(folder / f"{name}.npy", mmap_mode="r") for name in arrays._fields]
        for arrays in (StepArrays, WindowArrays)
    )
    bytes_per_step, bytes_per_window = (
        sum(array.nbytes for array in arrays) / len(arrays[0]) for arrays in (steps, windows)
    )
    return {
        "cache_MiB_per_million_steps": 1e6 * bytes_per_step / 2**20,
        "cache_bytes_per_window": bytes_per_window,
    }


def _gpu_peak(device: torch.device) -> dict[str, float]:
    """The largest use of GPU memory since the last call; empty on a CPU."""
    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return {"peak_gpu_bytes": peak}


def _device_name(device: torch.device) -> str:
    return device_name(device.type, f"{torch.get_num_threads()} threads")


def _new(config: ModelConfig) -> Network:
    torch.manual_seed(0)
    return Network(config, SIZES)


def _objective(model_config: ModelConfig, loss_config: LossConfig) -> MTORLLoss:
    return MTORLLoss(loss_config, model_config.form, [f"gain_{k}" for k in range(SIZES.gains)])


def _rate(run: Callable[[int], None], epochs: int, windows: int, device: torch.device) -> float:
    """Windows per second of some epochs."""
    start = _now(device)
    run(epochs)
    return epochs * windows / (_now(device) - start)


def _now(device: torch.device) -> float:
    """Seconds, after all work that the GPU was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small", choices=sorted(PRESETS))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each loop in a round, about; default 10")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--windows", type=int, help="of an epoch; default: as many as take a few seconds")
    parser.add_argument("--full", type=int, metavar="USERS", help="instead: one training to its end")
    parser.add_argument("--device", default=TrainConfig().device, choices=("auto", "cpu", "cuda"))
    args = parser.parse_args()
    require_at_least(args, rounds=1, full=1)
    device = choose_device(args.device)
    windows = _WINDOWS[device.type] if args.windows is None else args.windows
    with redirect_stdout(sys.stderr):  # fit prints its epochs, and stdout is for the figures
        if args.full:
            figures = measure_full(args.preset, args.full, device)
        else:
            figures = measure(args.preset, args.seconds, args.rounds, device, windows)
    print(json.dumps(figures))


if __name__ == "__main__":
    exit_with_one_line(main)

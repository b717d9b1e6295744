"""Training's windows per second, beside a plain loop and the machine's matrix multiplications.

python -m benchmarks.training --preset small|paper [--seconds 10] [--rounds 3] [--device auto] [--full USERS]

Random windows of the size of Criteo's are read from files as in production. In each round three things take their
turn for about that many seconds: training.fit; a plain eager loop of the same model on the same batches (Adam one
tensor at a time, every tensor copied by itself, float32, the loss read at each step); and multiplying matrices, in
float32 and of the model's size on a CPU, on a GPU in bfloat16 and so large that nothing but its units is the limit.
One round more comes first and is not counted. The last line of the output is a JSON object of medians over the rounds.
On a GPU it also tells what a step's time goes to.

--full USERS: instead, one training.fit to its end, on a window a user; an eighth as many users validate it.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.data.device import choose_device
from mtorl_model.data.encoding import Encoded
from mtorl_model.data.window_store import WindowStore
from mtorl_model.methods.mtorl.config import PRESETS, LossConfig, ModelConfig, preset
from mtorl_model.methods.mtorl.losses import MTORLLoss, draw_pairs, total_loss
from mtorl_model.methods.mtorl.network import Network
from mtorl_model.training.config import TrainConfig
from mtorl_model.training.loop import fit
from schemas.errors import UserError, exit_with_one_line

# As encoded from two days of the Criteo sample.
SIZES = InputSizes(
    vocabulary=(25, 3, 12, 11, 10, 12, 29, 10, 8, 23, 265, 12, 31), numeric=66, actions=11, reward_inputs=3, gains=2
)
_WINDOWS = {"cpu": 2048, "cuda": 65_536}  # of an epoch, to take seconds
_VALIDATED = 8  # validation is no part of what is measured
_SQUARE = 8192  # rows and columns of the matrices that a GPU's own rate is measured with
_MULTIPLIES = re.compile(r"gemm|cutlass|nvjet|xmma|conv(?!ert)|wgrad|dgrad|fprop|attention|fmha|flash", re.IGNORECASE)


class Kernel(NamedTuple):
    """One piece of work of a GPU; start and end in microseconds."""

    name: str
    start: float
    end: float


def write_windows(folder: Path, windows: int, steps: int) -> WindowStore:
    """Random windows, a third of their steps padding, half of the others labels."""
    rng, shape = np.random.default_rng(0), (windows, steps)
    valid_NL = np.arange(steps) >= rng.integers(0, 2 * steps // 3, (windows, 1))
    label_NL = valid_NL & (np.arange(steps) >= steps // 2)
    numbers = {
        "numeric_NLF": SIZES.numeric, "action_in_NLA": SIZES.actions, "reward_in_NLR": SIZES.reward_inputs,
    }  # fmt: skip
    arrays: dict[str, Any] = {
        name: rng.standard_normal((*shape, width), dtype=np.float32) * valid_NL[:, :, None]
        for name, width in numbers.items()
    }
    arrays |= {
        "categorical_NLK": (rng.integers(0, SIZES.vocabulary, (*shape, len(SIZES.vocabulary))) * valid_NL[:, :, None]),
        "profile_categorical_NK": np.zeros((windows, 0)),
        "profile_numeric_NF": np.zeros((windows, 0), dtype=np.float32),
        "valid_NL": valid_NL,
        "label_NL": label_NL,
        "action_NL": np.where(label_NL, rng.integers(0, SIZES.actions, shape), -1),
        "gains_NLG": ((rng.random((*shape, SIZES.gains)) < 0.2) & label_NL[:, :, None]).astype(np.float32),
        "maturity_NLG": np.ones((*shape, SIZES.gains), dtype=np.float32),
        "reward_NL": rng.random(shape, dtype=np.float32) * label_NL,
    }
    whole = {"categorical_NLK", "profile_categorical_NK", "action_NL"}
    folder.mkdir(parents=True)
    for name in Encoded._fields:
        np.save(folder / f"{name}.npy", arrays[name].astype(np.int32) if name in whole else arrays[name])
    return WindowStore(folder, "random")


def plain_loop(model: Network, batches: Iterable[Batch], loss_config: LossConfig, device: torch.device) -> int:
    """Train as one would in a notebook; the number of windows."""
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


def flops_of_a_step(model: Network, batch: Batch, loss_config: LossConfig) -> int:
    """Floating-point operations of the matrix products of a step, forward and backward, on the CPU."""
    with FlopCounterMode(display=False) as counter:
        pairs = draw_pairs(batch, torch.Generator())
        total_loss(model.train()(batch), batch, loss_config, model.form, pairs).total.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def multiplied(rows: int, hidden: int, device: torch.device, seconds: float) -> float:
    """Floating-point operations per second of (rows, hidden) x (hidden, hidden), as long as `seconds`."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = torch.randn(rows, hidden, device=device, dtype=dtype), torch.randn(hidden, hidden, device=device)
    right, done, times = right.to(dtype), 0, 1
    start = _now(device)
    while (spent := _now(device) - start) < seconds:
        for _ in range(times):
            left @ right
        done += times
        times = min(2 * times, 1000)  # seldom enough that looking at the clock costs nothing
    return 2.0 * rows * hidden * hidden * done / spent


def shares(kernels: Iterable[Kernel]) -> dict[str, float]:
    """What the time from the first kernel to the last goes to: matrix products, other kernels, none at all.

    Kernels that do not multiply matrices move memory; where none runs, the GPU waits to be given one.
    """
    ordered = sorted(kernels, key=lambda kernel: kernel.start)
    if not ordered:
        raise UserError("the profiler saw no kernel: does this process have a GPU that it may profile?")
    spent, until = {"matrix_multiply": 0.0, "memory": 0.0, "launch": 0.0}, ordered[0].start
    for kernel in ordered:
        spent["launch"] += max(0.0, kernel.start - until)
        kind = "matrix_multiply" if _multiplies(kernel.name) else "memory"
        spent[kind] += max(0.0, kernel.end - max(kernel.start, until))
        until = max(until, kernel.end)
    return {f"{kind}_share": time_us / (until - ordered[0].start) for kind, time_us in spent.items()}


def _multiplies(kernel: str) -> bool:
    """A compiled kernel that multiplies is made of a template; others only bear the names of what they follow."""
    return kernel.startswith("triton_tem") if kernel.startswith("triton_") else bool(_MULTIPLIES.search(kernel))


def profiled(run: Callable[[], Any]) -> list[Kernel]:
    """The kernels of a run on the GPU."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    return [
        Kernel(event.name, event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type.name == "CUDA"
    ]


def measure(name: str, seconds: float, rounds: int, device: torch.device, windows: int) -> dict[str, Any]:
    """The figures of a preset; each rate is the median over the rounds."""
    chosen = preset(name, "criteo")
    model_config, loss_config = chosen.model, chosen.loss
    config = replace(chosen.train, device=device.type, max_epochs=1, patience=1, seed=0, keep="last")
    size = config.batch_size
    with tempfile.TemporaryDirectory() as folder:
        train = write_windows(Path(folder, "train"), windows, model_config.steps)
        valid = write_windows(Path(folder, "valid"), _VALIDATED, model_config.steps)
        first = next(train.in_order(size))
        flops_per_window = flops_of_a_step(_new(model_config), first, loss_config) / len(first.label_BL)
        ours, plain = _new(model_config).to(device), _new(model_config).to(device)

        def ours_for(epochs: int) -> None:
            fit(
                ours,
                train,
                valid,
                _objective(model_config, loss_config),
                replace(config, max_epochs=epochs, patience=epochs),
            )

        def plain_for(epochs: int) -> None:
            for epoch in range(epochs):
                plain_loop(plain, train.batches(size, seed=0, epoch=epoch), loss_config, device)

        found: dict[str, list[float]] = {"windows_per_second": [], "plain_windows_per_second": [], "multiplied": []}
        epochs, of_the_model = 1, (size * model_config.steps, model_config.hidden)
        largest = (_SQUARE, _SQUARE) if device.type == "cuda" else of_the_model
        on_gpu: dict[str, float] = {}
        for number in range(rounds + 1):
            _gpu_peak(device)
            rates = [_rate(ours_for, epochs, len(train), device)]
            on_gpu |= _gpu_peak(device)
            rates += [_rate(plain_for, epochs, len(train), device), multiplied(*largest, device, min(seconds, 3.0))]
            if number == 0:  # compiles, warms up, and tells how much is enough
                epochs = max(1, round(seconds * rates[0] / len(train)))
                continue
            for key, rate in zip(found, rates, strict=True):
                found[key].append(rate)
        if device.type == "cuda":
            small_rate = multiplied(*of_the_model, device, min(seconds, 3.0))
            on_gpu |= {"multiply_gflop_per_second_at_model_size": small_rate / 1e9}
            on_gpu |= shares(profiled(lambda: ours_for(1)))
    rate, plain_rate, multiply_rate = map(median, found.values())
    return {
        "preset": name,
        "device": _named(device),
        "windows_per_second": rate,
        "plain_windows_per_second": plain_rate,
        "times_plain": median(a / b for a, b in zip(*list(found.values())[:2], strict=True)),
        "ms_per_step": 1000 * size / rate,
        "gflop_per_step": flops_per_window * size / 1e9,
        "multiply_gflop_per_second": multiply_rate / 1e9,
        "share_of_multiply": median(
            flops_per_window * a / b for a, b in zip(found["windows_per_second"], found["multiplied"], strict=True)
        ),
        **on_gpu,
    }


def full(name: str, users: int, device: torch.device) -> dict[str, Any]:
    """What a training to its end costs: of one member, on a window a user, without its checkpoints."""
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
        "preset": name, "device": _named(device), "users": users, "seconds": seconds,
        "epochs": len(history.epochs), "windows_per_second": len(history.epochs) * users / seconds,
        **_gpu_peak(device),
    }  # fmt: skip


def _gpu_peak(device: torch.device) -> dict[str, float]:
    """The most that was held of a GPU's memory since this was last asked; nothing of a CPU."""
    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return {"peak_gpu_bytes": peak}


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def _new(config: ModelConfig) -> Network:
    torch.manual_seed(0)
    return Network(config, SIZES)


def _objective(model_config: ModelConfig, loss_config: LossConfig) -> MTORLLoss:
    return MTORLLoss(loss_config, model_config.form, [f"gain_{k}" for k in range(SIZES.gains)])


def _rate(run: Callable[[int], None], epochs: int, windows: int, device: torch.device) -> float:
    start = _now(device)
    run(epochs)
    return epochs * windows / (_now(device) - start)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small", choices=sorted(PRESETS))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each loop in a round, about; default 10")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--windows", type=int, help="of the training store; default: some seconds' worth")
    parser.add_argument("--full", type=int, metavar="USERS", help="instead: one training to its end")
    parser.add_argument("--device", default=TrainConfig().device, choices=("auto", "cpu", "cuda"))
    args = parser.parse_args()
    if args.rounds < 1 or (args.full or 1) < 1:
        raise UserError("--rounds and --full are at least 1")
    device = choose_device(args.device)
    windows = _WINDOWS[device.type] if args.windows is None else args.windows
    with redirect_stdout(sys.stderr):  # what fit says is no figure
        if args.full:
            figures = full(args.preset, args.full, device)
        else:
            figures = measure(args.preset, args.seconds, args.rounds, device, windows)
    print(json.dumps(figures))


if __name__ == "__main__":
    exit_with_one_line(main)

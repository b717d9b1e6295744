"""The model's own benchmarks, as their modules tell them: benchmarks.training and benchmarks.scoring."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from benchmarks.measure import Cost, measured
from benchmarks.pipeline import NO_GPU, module
from benchmarks.section import Section, gib, this_machine
from schemas.errors import UserError

PRESETS = ("small", "paper")
USERS = (10_000, 100_000, 1_000_000)
_PEAK = "peak_bytes"
TRAINING = """\
`python -m benchmarks.training --preset P`: a preset's own training step beside a plain eager loop of the same model, in
turns in one process, and as a share of what the same machine does in matrix multiplication alone. On a processor the
product neither compiles nor rounds to bfloat16 (a step of `small` takes longer compiled there), so that of what it does
otherwise than the plain loop only the fused optimiser can be faster; its deterministic kernels and the bookkeeping of a
training that can be resumed are in its figure. So about 1 is what is to be had there, and the share says what is
left."""
SCORING = """\
`python -m benchmarks.scoring --users N`: the nightly scoring of so many users with the preset `small`, in a process of
its own on two cores, its start included. Journeys are as long as the published logs' are (Criteo's, where nothing else
is said), and the spec keeps every candidate feature, which is more than either log keeps. *Again*: the same day once
more, after one journey in a hundred was repaired; the others' answers are carried over. From one night to the next none
is, as long as the spec keeps an input that counts the time since the last exposure, as both samples' specs do: it is
another for every user. Nor is any where the champion has changed in between. So what carrying over was meant to save of
a usual night is not saved: it serves a night that is run again. The limits set are at least 3,000 users a second, and
memory that does not grow with the users. {reached}. What grows is the answer to each, some hundred bytes that are kept
until all are ranked, and the pages of the file of answers. Memory is the scoring process's largest resident set."""


GPU = """\
The same commands where torch finds a GPU, on all cores of its machine. *Share of multiply*: of what the GPU itself does
in bfloat16 on matrices of 8192 x 8192; what it does on those of the model's size stands beside it. *Shares*: of a
step's time, how long the GPU multiplies matrices, does other work (which moves memory), or waits to be given some
(launch). *Full training*: one member of `small` to its end, on a window of each user; made-up labels teach nothing, so
it ends as soon as its patience is spent."""


def training(command: str, repeats: int) -> Section:
    return _section("Training", TRAINING, command, _training("cpu"), repeats, NO_GPU)


def scoring(command: str, repeats: int) -> Section:
    lines = {f"{users:,} users": _scoring(users) for users in USERS}
    lines[f"{USERS[1]:,} users, KuaiRand"] = _scoring(USERS[1], "--dataset", "kuairand")
    lines[f"{USERS[1]:,} users, again"] = _scoring(USERS[1], "--again")
    found = _section("Scoring", SCORING, command, lines, repeats, NO_GPU)
    rates = {row[0]: row[found.headings.index("users per second")] for row in found.rows}
    reached = ", ".join(f"{rate.partition(' ')[0]} with {name}" for name, rate in rates.items())
    return replace(found, text=SCORING.format(reached=f"Measured: {reached}"))


def gpu(command: str, repeats: int) -> Section:
    """UserError where there is none."""
    if not torch.cuda.is_available():
        raise UserError("ONLY=gpu needs a machine with a GPU that torch can use")
    lines = _training("cuda") | {
        f"full training of {USERS[-1]:,} users": (
            "benchmarks.training", "--preset", "small", "--device", "cuda", "--full", str(USERS[-1])
        ),
        f"scoring {USERS[-1]:,} users": _scoring(USERS[-1]),
    }  # fmt: skip
    return _section("On a GPU", GPU, command, lines, repeats, {})


def _training(device: str) -> dict[str, tuple[str, ...]]:
    return {
        f"training `{preset}`": ("benchmarks.training", "--preset", preset, "--device", device) for preset in PRESETS
    }


def _scoring(users: int, *arguments: str) -> tuple[str, ...]:
    return ("benchmarks.scoring", "--users", str(users), *arguments)


def _section(
    title: str,
    text: str,
    command: str,
    lines: Mapping[str, Sequence[str]],
    repeats: int,
    environment: Mapping[str, str],
) -> Section:
    found: dict[str, list[Cost]] = {name: [] for name in lines}
    for _ in range(repeats):
        for name, words in lines.items():
            cost = measured(module(*words), environment)
            if not cost.figures:
                raise UserError(f"{' '.join(words)}: its last line is no JSON object of figures")
            found[name].append(cost)
            print(f"  {name}: {cost.seconds:.1f} s", flush=True)
    names = list(dict.fromkeys(key for costs in found.values() for cost in costs for key in cost.figures))
    # What a module tells of the memory is without that of making up its data.
    names = [name for name in names if name != _PEAK]
    rows = [
        [name, *(_cell([cost.figures.get(key) for cost in costs]) for key in names),
         gib(max(cost.figures.get(_PEAK, cost.peak_bytes) for cost in costs)), str(repeats)]
        for name, costs in found.items()
    ]  # fmt: skip
    headings = ["what", *(key.replace("_", " ") for key in names), "memory", "repeats"]
    return Section(title, text, command, this_machine(), headings, rows)


def _cell(values: Sequence[Any]) -> str:
    """The median of the repeats, with the smallest and largest; of text, what it says."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values) or not numbers:
        return str(values[0]) if values and values[0] is not None else ""
    low, high = min(numbers), max(numbers)
    return _number(low) if low == high else f"{_number(median(numbers))} [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"

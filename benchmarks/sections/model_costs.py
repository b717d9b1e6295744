"""The figures that benchmarks.training and benchmarks.scoring print, as sections: training, scoring, and both on a GPU.

Each of the two programs prints a JSON object as its last line; its keys become columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from benchmarks import machine
from benchmarks.commands import NO_GPU, module
from benchmarks.measure import Cost, measure
from benchmarks.sections.section import Section, gib
from schemas.errors import UserError

PRESETS = ("small", "paper")
USERS = (10_000, 100_000, 1_000_000)
_PEAK = "peak_bytes"
TRAINING = """\
`python -m benchmarks.training --preset P` compares the training step of a preset with a plain eager loop of the same
model, alternating in one process, and with the rate at which the machine multiplies matrices. On a CPU the pipeline
neither compiles the model nor rounds to bfloat16 (a compiled step of `small` takes longer there), so of its differences
from the plain loop only the fused optimiser can make it faster; its figure includes deterministic kernels and the
bookkeeping of a training that can be resumed. A ratio of about 1 is therefore the best to expect on a CPU, and the
share of multiply shows how much a faster step could still gain. *Gather* is the loader alone: it gathers a batch of
windows, as large as that of a training step, from the files of encoded steps in the cache. A step of several
windows is in the cache once. The sizes are those of Criteo's inputs."""
SCORING = """\
`python -m benchmarks.scoring --users N` runs the nightly scoring of N users with the preset `small` in a separate
process on two cores, its start included. Journeys are as long as those of the published logs (Criteo's by default), and
the spec keeps every candidate feature, which is more than the spec of either log keeps. *Again* scores the same day
once more after one journey in a hundred was repaired; the other predictions are reused. Between one night and the next
no prediction can be reused as long as the spec keeps an input that counts the time since the last exposure, as the
specs of both samples do, because that input changes for every user. A new champion also prevents reuse. So the reuse of
predictions does not shorten a usual night; it shortens a night that is run again. The limits are at least 3,000 users
per second and memory that does not grow with the number of users. {reached}. The parts that do grow are the prediction
for each user, about a hundred bytes that are kept until all users are ranked, and the cached pages of the file of
predictions. Memory is the largest resident set of the scoring process."""
GPU = """\
The same commands with a GPU that torch can use, on all cores of its machine. *Share of multiply* is relative to the
GPU's own rate in bfloat16 on matrices of 8192 x 8192; its rate on matrices of the model's size is another column.
*Shares* are the parts of a step's time in which the GPU multiplies matrices, runs other kernels (which move memory), or
waits for the next kernel (launch). *Full training* trains one member of `small` to its end, on one window per user;
made-up labels cannot be learned, so it ends as soon as its patience is used up."""


def measure_training(command: str, repeats: int) -> Section:
    return _measure_programs("Training", TRAINING, command, _training("cpu"), repeats, NO_GPU)


def measure_scoring(command: str, repeats: int) -> Section:
    programs = {f"{users:,} users": _scoring(users) for users in USERS}
    programs[f"{USERS[1]:,} users, KuaiRand"] = _scoring(USERS[1], "--dataset", "kuairand")
    programs[f"{USERS[1]:,} users, again"] = _scoring(USERS[1], "--again")
    section = _measure_programs("Scoring", SCORING, command, programs, repeats, NO_GPU)
    rates = {row[0]: row[section.headings.index("users per second")] for row in section.rows}
    reached = ", ".join(f"{rate.partition(' ')[0]} with {name}" for name, rate in rates.items())
    return replace(section, text=SCORING.format(reached=f"Measured: {reached}"))


def measure_gpu(command: str, repeats: int) -> Section:
    """Raises UserError if torch finds no GPU."""
    if not torch.cuda.is_available():
        raise UserError("ONLY=gpu needs a machine with a GPU that torch can use")
    users = USERS[-1]
    programs = _training("cuda") | {
        f"full training of {users:,} users": (
            "benchmarks.training", "--preset", "small", "--device", "cuda", "--full", str(users)
        ),
        f"scoring {users:,} users": _scoring(users),
    }  # fmt: skip
    return _measure_programs("On a GPU", GPU, command, programs, repeats, {})


def _training(device: str) -> dict[str, tuple[str, ...]]:
    return {
        f"training `{preset}`": ("benchmarks.training", "--preset", preset, "--device", device) for preset in PRESETS
    }


def _scoring(users: int, *arguments: str) -> tuple[str, ...]:
    return ("benchmarks.scoring", "--users", str(users), *arguments)


def _measure_programs(
    title: str,
    text: str,
    command: str,
    programs: Mapping[str, Sequence[str]],
    repeats: int,
    environment: Mapping[str, str],
) -> Section:
    """programs: by the name of a row, a module of this folder and its arguments."""
    costs: dict[str, list[Cost]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, words in programs.items():
            cost = measure(module(*words), environment)
            if not cost.figures:
                raise UserError(f"{' '.join(words)}: its last line is not a JSON object of figures")
            costs[name].append(cost)
            print(f"  {name}: {cost.seconds:.1f} s", flush=True)
    all_figures = [cost.figures for rounds in costs.values() for cost in rounds]
    # A program's own peak has its own column, "memory": it excludes the memory that making up the data takes.
    keys = [key for key in dict.fromkeys(key for figures in all_figures for key in figures) if key != _PEAK]
    rows = [
        [
            name,
            *(_cell([cost.figures.get(key) for cost in rounds]) for key in keys),
            gib(max(cost.figures.get(_PEAK, cost.peak_bytes) for cost in rounds)),
            str(repeats),
        ]
        for name, rounds in costs.items()
    ]
    headings = ["what", *(key.replace("_", " ") for key in keys), "memory", "repeats"]
    return Section(title, text, command, machine.description(), headings, rows)


def _cell(values: Sequence[Any]) -> str:
    """The median of the rounds with the smallest and the largest; of text, that of the first round."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values) or not numbers:
        return str(values[0]) if values and values[0] is not None else ""
    low, high = min(numbers), max(numbers)
    return _number(low) if low == high else f"{_number(median(numbers))} [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"

"""The table and the curve of the fusion study, as a block between two marks of a Markdown file and a picture.

Intervals are 95 % Student intervals over the seeds, each of which is a world. Differences are paired by seed.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simulation import report
from simulation.report import interval, text

Floats = npt.NDArray[np.float64]

RUNS, TABLE, PICTURE = "fusion.jsonl", "fusion.md", "fusion.svg"
EQUAL, STATIC, EVOLUTION, UNIFIED = "equal weights", "static weights", "evolution strategy", "UnifiedRL"
BEST = "best fusion per user"

Runs = dict[str, dict[int, dict[str, Any]]]  # the line of each method and seed


def write_report(folder: Path, command: str) -> list[Path]:
    """Write the table and the picture; their paths. command: that wrote the runs."""
    setting, *lines = [json.loads(line) for line in (folder / RUNS).read_text().splitlines()]
    runs: Runs = defaultdict(dict)
    for line in lines:
        runs[line["method"]][line["seed"]] = line
    total = setting["lists"] * setting["rounds"]
    protocol = [
        f"`{command}`",
        "",
        f"{total:,} lists of new users for each method and seed, in {setting['rounds']} rounds. A seed is a world. "
        "Values are the mean reward of a session of 500 other users. Brackets are 95 % Student intervals over seeds; "
        "differences are computed for each seed.",
        "",
    ]
    (folder / TABLE).write_text("\n".join([*protocol, *method_table(runs), "", *round_table(runs)]) + "\n")
    _draw(runs, setting["lists"], folder / PICTURE)
    return [folder / TABLE, folder / PICTURE]


def insert_into(document: Path, folder: Path) -> None:
    """Replace the text between the marks of a Markdown file by the table, and the picture next to the file."""
    report.insert_into(document, folder / TABLE, folder / PICTURE, "value by lists shown")


def method_table(runs: Runs) -> list[str]:
    """One line for each method, over the seeds that it has."""
    lines = [
        f"| method | seeds | value | minus {EQUAL} | {UNIFIED} minus this | regret to the {BEST} | share of its gain | "
        f"while learning, minus {EQUAL} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, by_seed in runs.items():
        seeds = sorted(set.intersection(*(set(runs[method]) for method in (name, EQUAL, UNIFIED, BEST))))
        value, equal, unified, best = (_last_values(runs[method], seeds) for method in (name, EQUAL, UNIFIED, BEST))
        served = [by_seed[seed]["served"] for seed in seeds]
        while_learning = (
            text(interval(np.array([np.mean(rewards) for rewards in served]) - equal)) if None not in served[0] else ""
        )
        lines.append(
            f"| {name} | {len(seeds)} | {value.mean():.2f} | {text(interval(value - equal)) if name != EQUAL else ''} "
            f"| {text(interval(unified - value)) if name != UNIFIED else ''} "
            f"| {text(interval(best - value)) if name != BEST else ''} "
            f"| {(value - equal).mean() / (best - equal).mean():.0%} | {while_learning} |"
        )
    return lines


def round_table(runs: Runs) -> list[str]:
    """The methods that learn in rounds: their gain over equal weights after each round."""
    rounds = len(next(iter(runs[UNIFIED].values()))["values"])
    lines = [
        f"Value minus that of {EQUAL}, after each round:",
        "",
        "| method | " + " | ".join(str(number) for number in range(1, rounds + 1)) + " |",
        "|---|" + "---|" * rounds,
    ]
    for name in (name for name in runs if name not in (EQUAL, BEST) and _rounds_of(runs[name]) == rounds):
        gain_NR = _gains(runs, name)
        lines.append(f"| {name} | " + " | ".join(text(interval(gain_N)) for gain_N in gain_NR.T) + " |")
    return lines


def _rounds_of(by_seed: dict[int, dict[str, Any]]) -> int:
    return len(next(iter(by_seed.values()))["values"])


def _last_values(by_seed: dict[int, dict[str, Any]], seeds: list[int]) -> Floats:
    return np.array([by_seed[seed]["values"][-1] for seed in seeds])


def _gains(runs: Runs, name: str) -> Floats:
    """[seeds, rounds]."""
    seeds = sorted(set(runs[name]) & set(runs[EQUAL]))
    gains: Floats = np.array([runs[name][seed]["values"] for seed in seeds])
    return gains - _last_values(runs[EQUAL], seeds)[:, None]


def _draw(runs: Runs, lists: int, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "mtorl", "svg.fonttype": "none", "font.size": 9}
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.5, 4))
    for name in (STATIC, EVOLUTION, UNIFIED):
        gain_NR = _gains(runs, name)
        lists_shown = lists * np.arange(1, gain_NR.shape[1] + 1)
        mean, low, high = np.array([interval(gain_N) for gain_N in gain_NR.T]).T
        axes.plot(lists_shown, mean, label=name, marker=".", linewidth=2.2 if name == UNIFIED else 1.2)
        axes.fill_between(lists_shown, low, high, alpha=0.15)
    axes.axhline(_gains(runs, BEST).mean(), linestyle="--", linewidth=1.0, color="grey", label=BEST)
    axes.set(xlabel="lists shown", ylabel=f"value of a session minus that of {EQUAL}")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=4)  # no curve is above the axes
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})

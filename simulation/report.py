"""The table and the curves of the comparison, as a block between two marks of a Markdown file and a picture.

Intervals are 95 % Student intervals over the seeds. Differences are paired by seed.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from schemas.errors import UserError

TABLE, PICTURE = "comparison.md", "comparison.svg"
MARKS = ("<!-- comparison -->", "<!-- /comparison -->")
FIRST, ORACLE = "tastes in pairs", "oracle"
_CURVES = (
    FIRST, "MTORL in pairs", "records in pairs",
    "MTORL as published", "boosting of pairs", "boosting ranking", "popularity", "random", "informed", ORACLE,
)  # fmt: skip

Runs = dict[int, dict[str, Any]]  # the campaigns of a strategy at a share of the budget, by seed
Comparison = dict[float, dict[str, Runs]]  # by share of the budget and strategy


def write_report(folder: Path, runs: Path, command: str) -> list[Path]:
    """Write comparison.md and comparison.svg; their paths. command: that wrote the runs."""
    setting, *campaigns = [json.loads(line) for line in runs.read_text().splitlines()]
    comparison: Comparison = defaultdict(lambda: defaultdict(dict))
    for run in campaigns:
        comparison[run["share"]][run["strategy"]][run["seed"]] = run
    headline = max(comparison, key=lambda share: len(comparison[share][FIRST]))
    protocol = [
        f"`{command}`",
        "",
        f"{setting['users']} users per seed, {setting['rounds']} rounds, {len(setting['models'])} trainings on "
        f"{setting['training_users']} other users each, which the seeds use in turn. Brackets are 95 % Student "
        "intervals over seeds; ratios and differences are computed for each seed.",
        "",
    ]
    lines = [*protocol, *_table(comparison[headline], headline), "", *_shares(comparison)]
    (folder / TABLE).write_text("\n".join(lines) + "\n")
    _draw(comparison, folder / PICTURE)
    return [folder / TABLE, folder / PICTURE]


def insert_into(document: Path, table: Path, picture: Path, caption: str) -> None:
    """Replace the text between the marks of a Markdown file by the table, and the picture next to the file."""
    text = document.read_text()
    if any(text.count(mark) != 1 for mark in MARKS):
        raise UserError(f"{document} needs the lines {MARKS[0]} and {MARKS[1]}, once each: the table goes between them")
    beginning, remainder = text.split(MARKS[0])
    _, ending = remainder.split(MARKS[1])
    copied = document.with_suffix(".svg")
    copied.write_bytes(picture.read_bytes())
    block = f"{table.read_text()}\n![{caption}]({copied.name})"
    document.write_text(f"{beginning}{MARKS[0]}\n{block}\n{MARKS[1]}{ending}")


def _totals(runs: Runs, figure: str = "expected") -> np.ndarray:
    """[seeds]: a figure's sum over the rounds, in the order of the seeds."""
    return np.array([sum(runs[seed][figure]) for seed in sorted(runs)], dtype=float)


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, low and high of a 95 % Student interval; without one for a single value."""
    mean, count = float(values.mean()), len(values)
    half = float(student.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    return mean, mean - half, mean + half


def _table(strategies: dict[str, Runs], share: float) -> list[str]:
    first, oracle = _totals(strategies[FIRST]), _totals(strategies[ORACLE])
    lines = [
        f"{share:.0%} of the full budget, {len(first)} seeds.",
        "",
        f"| strategy | reward | per exposure | share of the oracle | regret to the oracle | {FIRST} minus this | "
        "exposures | spent |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in strategies.items():
        reward, exposures = _totals(runs), _totals(runs, "exposures")
        spent_share = _totals(runs, "spent_nano") / np.array([runs[seed]["budget_nano"] for seed in sorted(runs)])
        difference = "" if name == FIRST else text(interval(first - reward))
        lines.append(
            f"| {name} | {text(interval(reward))} | {(reward / exposures).mean():.4f} "
            f"| {_percent(interval(reward / oracle))} | {text(interval(oracle - reward))} | {difference} "
            f"| {exposures.mean():.0f} | {spent_share.mean():.1%} |"
        )
    return lines


def _shares(comparison: Comparison) -> list[str]:
    shares = sorted(comparison)
    lines = [
        "Reward as a share of the oracle's reward, by budget, for the seeds that all budgets have:",
        "",
        "| strategy | " + " | ".join(f"{share:.0%}" for share in shares) + " |",
        "|---|" + "---|" * len(shares),
    ]
    for name in comparison[shares[0]]:
        cells = []
        for share in shares:
            seeds = sorted(set(comparison[share][name]) & set(comparison[shares[0]][name]))
            reward, oracle = (_totals({s: comparison[share][n][s] for s in seeds}) for n in (name, ORACLE))
            cells.append(_percent(interval(reward / oracle)))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def text(estimate: tuple[float, float, float]) -> str:
    """Mean [low, high]; the mean alone if there is no interval."""
    mean, low, high = estimate
    return f"{mean:.2f}" if np.isnan(low) else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _percent(estimate: tuple[float, float, float]) -> str:
    mean, low, high = estimate
    return f"{mean:.1%}" if np.isnan(low) else f"{mean:.1%} [{low:.1%}, {high:.1%}]"


def _draw(comparison: Comparison, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "mtorl", "svg.fonttype": "none", "font.size": 9}
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    shares = sorted(comparison)
    seeds = sorted(set.intersection(*(set(comparison[share][ORACLE]) for share in shares)))
    oracle = np.array([_totals({s: comparison[share][ORACLE][s] for s in seeds}) for share in shares])
    for name in (name for name in _CURVES if name in comparison[shares[0]]):
        reward = np.array([_totals({s: comparison[share][name][s] for s in seeds}) for share in shares])
        style = {
            "label": name,
            "linewidth": 2.2 if name == FIRST else 1.2,
            "marker": ".",
            "linestyle": "--" if name == ORACLE else "-",
        }
        left.plot(shares, reward.mean(axis=1), **style)
        right.plot(shares, (oracle - reward).mean(axis=1), **style)
    left.set(xlabel="share of the full budget", ylabel="expected reward", title="Reward")
    right.set(
        xlabel="share of the full budget", ylabel="reward of the oracle minus that of the strategy", title="Regret"
    )
    left.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})

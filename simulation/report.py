"""The comparison's table and curves, from its campaigns: the block between two marks of a Markdown file, and a picture.

Intervals are 95 % Student intervals over the seeds; differences are paired by seed.
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
FIRST, ORACLE = "MTORL in pairs", "oracle"
_CURVES = (
    FIRST, "records in pairs",
    "MTORL as published", "boosting of pairs", "boosting ranking", "popularity", "random", "informed", ORACLE,
)  # fmt: skip


def write_report(folder: Path, runs: Path, command: str) -> list[Path]:
    """comparison.md and comparison.svg beside each other; the paths of both. command: what made the runs."""
    setting, *campaigns = [json.loads(line) for line in runs.read_text().splitlines()]
    found: dict[float, dict[str, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for run in campaigns:
        found[run["share"]][run["strategy"]][run["seed"]] = run
    headline = max(found, key=lambda share: len(found[share][FIRST]))
    protocol = [
        f"`{command}`",
        "",
        f"{setting['users']} users a seed, {setting['rounds']} rounds, {len(setting['models'])} trainings on "
        f"{setting['training_users']} other users each, which the seeds take in turn. In brackets 95 % Student "
        "intervals over seeds; ratios and differences are taken seed by seed.",
        "",
    ]
    lines = [*protocol, *_table(found[headline], headline), "", *_shares(found)]
    (folder / TABLE).write_text("\n".join(lines) + "\n")
    _picture(found, folder / PICTURE)
    return [folder / TABLE, folder / PICTURE]


def put_into(document: Path, folder: Path) -> None:
    """Replace what stands between the marks of a Markdown file by the table, and the picture beside the file."""
    text = document.read_text()
    if any(text.count(mark) != 1 for mark in MARKS):
        raise UserError(f"{document} needs the lines {MARKS[0]} and {MARKS[1]}, once each: the table goes between them")
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    picture = document.with_suffix(".svg")
    picture.write_bytes((folder / PICTURE).read_bytes())
    block = f"{(folder / TABLE).read_text()}\n![reward and regret by budget]({picture.name})"
    document.write_text(f"{before}{MARKS[0]}\n{block}\n{MARKS[1]}{after}")


def _earned(runs: dict[int, dict[str, Any]], what: str = "expected") -> np.ndarray:
    """[seeds], in the order of the seeds."""
    return np.array([sum(runs[seed][what]) for seed in sorted(runs)], dtype=float)


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, low and high."""
    mean, count = float(values.mean()), len(values)
    half = float(student.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    return mean, mean - half, mean + half


def _table(of_strategy: dict[str, dict[int, dict[str, Any]]], share: float) -> list[str]:
    first, oracle = _earned(of_strategy[FIRST]), _earned(of_strategy[ORACLE])
    lines = [
        f"{share:.0%} of the full budget, {len(first)} seeds.",
        "",
        "| strategy | reward | an exposure | of the oracle's | regret to the oracle | MTORL in pairs minus this |"
        " exposures | spent |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in of_strategy.items():
        earned, shown = _earned(runs), _earned(runs, "exposures")
        spent = _earned(runs, "spent_nano") / np.array([runs[seed]["budget_nano"] for seed in sorted(runs)])
        less = _interval(first - earned)
        ratio = _percent(_interval(earned / oracle))
        lines.append(
            f"| {name} | {_text(_interval(earned))} | {(earned / shown).mean():.4f} | {ratio} "
            f"| {_text(_interval(oracle - earned))} | {'' if name == FIRST else _text(less)} "
            f"| {shown.mean():.0f} | {spent.mean():.1%} |"
        )
    return lines


def _shares(found: dict[float, dict[str, dict[int, dict[str, Any]]]]) -> list[str]:
    shares = sorted(found)
    lines = [
        "Reward as a share of the oracle's, by budget, of the seeds that all budgets have:",
        "",
        "| strategy | " + " | ".join(f"{share:.0%}" for share in shares) + " |",
        "|---|" + "---|" * len(shares),
    ]
    for name in found[shares[0]]:
        cells = []
        for share in shares:
            common = sorted(set(found[share][name]) & set(found[shares[0]][name]))
            mine, best = (_earned({s: found[share][n][s] for s in common}) for n in (name, ORACLE))
            cells.append(_percent(_interval(mine / best)))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _text(interval: tuple[float, float, float]) -> str:
    mean, low, high = interval
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _percent(interval: tuple[float, float, float]) -> str:
    mean, low, high = interval
    return f"{mean:.1%} [{low:.1%}, {high:.1%}]"


def _picture(found: dict[float, dict[str, dict[int, dict[str, Any]]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "mtorl", "svg.fonttype": "none", "font.size": 9}
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    shares = sorted(found)
    common = sorted(set.intersection(*(set(found[share][ORACLE]) for share in shares)))
    best = np.array([_earned({s: found[share][ORACLE][s] for s in common}) for share in shares])
    for name in _CURVES:
        earned = np.array([_earned({s: found[share][name][s] for s in common}) for share in shares])
        style = {"label": name, "linewidth": 2.2 if name == FIRST else 1.2, "marker": ".",
                 "linestyle": "--" if name == ORACLE else "-"}  # fmt: skip
        left.plot(shares, earned.mean(axis=1), **style)
        right.plot(shares, (best - earned).mean(axis=1), **style)
    left.set(xlabel="share of the full budget", ylabel="expected reward", title="Reward")
    right.set(xlabel="share of the full budget", ylabel="oracle's reward less the strategy's", title="Regret")
    left.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})

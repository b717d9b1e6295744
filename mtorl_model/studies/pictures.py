"""A study as one picture: a panel a figure, differences to the reference, or a curve over a setting."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtorl_model.evaluation.metrics import top_name
from mtorl_model.studies.variants import REFERENCE

_WORDS = {
    "f1_macro": "macro-F1",
    "accuracy": "accuracy",
    "auc": "AUC",
    top_name(0.375): "rate of the top 37.5 %",
    "recall_macro": "macro recall",
}
_OTHER_WORDS = {"precision_macro": "macro precision"}
_INK, _QUIET = "#1f4e79", "#8a8a8a"


def in_words(figure: str) -> str:
    """ "click auc" as "click AUC"."""
    of, name = figure.rsplit(" ", 1)
    return f"{of} {(_WORDS | _OTHER_WORDS).get(name, name)}"


def headline(told: Mapping[str, Any], figures: Sequence[str]) -> list[str]:
    """The figures to show: without those of the channel where it cannot be predicted."""
    hidden = () if told["channel_predictable"] else ("channel",)
    names = [f for f in dict.fromkeys(figures) if f.rsplit(" ", 1)[1] in _WORDS and not f.startswith(hidden or "\0")]
    # The rate of the top is another view of the gain that a budget is spent on: one is enough.
    return [f for f in names if not f.endswith(top_name(0.375)) or f.startswith("click")]


def draw(rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any], axis: str | None, path: Path) -> None:
    """Write the picture as SVG. axis: what a curve's axis is called; None: the variants are names.

    Grey is the reference trained with other seeds: what training alone changes.
    """
    pyplot = _pyplot()
    names = headline(told, [row["figure"] for row in rows])
    repetitions = told["repetitions"]
    left_out = repetitions if axis else (REFERENCE,)
    variants = list(dict.fromkeys(row["variant"] for row in rows if row["variant"] not in left_out))
    size = (2.6 * len(names) + 2.6 * (axis is None), 2.6 if axis else 1.2 + 0.28 * len(variants))
    plot, panels = pyplot.subplots(
        1, len(names), figsize=size, squeeze=False, sharey=axis is None, layout="constrained"
    )
    for panel, name in zip(panels[0], names, strict=True):
        shown = [row for row in rows if row["figure"] == name and row["variant"] in variants]
        panel.set_title(in_words(name), fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        if axis:
            panel.fill_between(*_columns(shown, "at", "low", "high"), color=_INK, alpha=0.15, linewidth=0)
            panel.plot(*_columns(shown, "at", "value"), color=_INK, marker="o", markersize=3)
            panel.set_xlabel(axis, fontsize=8)
            usual = next(row["at"] for row in shown if row["variant"] == REFERENCE)
            panel.axvline(usual, color=_QUIET, linewidth=0.8, linestyle=":")
            again = [row["value"] for row in rows if row["figure"] == name and row["variant"] in repetitions]
            panel.plot([usual] * len(again), again, color=_QUIET, marker="o", markersize=3, linestyle="none")
            continue
        panel.axvline(0, color=_QUIET, linewidth=0.8)
        for place, row in enumerate(reversed(shown)):
            ink = _QUIET if row["variant"] in repetitions else _INK
            low, high = _columns([row], "difference_low", "difference_high")
            panel.plot([*low, *high], [place, place], color=ink)
            panel.plot([row["difference"]], [place], color=ink, marker="o", markersize=4)
        panel.set_yticks(range(len(shown)), [row["variant"] for row in reversed(shown)], fontsize=8)
        panel.set_xlabel("difference to the reference", fontsize=8)
        panel.locator_params(axis="x", nbins=4)
    plot.savefig(path, metadata={"Date": None})
    pyplot.close(plot)


def draw_search(rows: Sequence[Mapping[str, Any]], params: Sequence[str], path: Path) -> None:
    """The trials' validation loss by their order and by each hyper-parameter; pruned ones hollow. SVG."""
    pyplot = _pyplot()
    panels_a_row = 3
    lines = -(-(1 + len(params)) // panels_a_row)
    plot, grid = pyplot.subplots(
        lines, panels_a_row, figsize=(8, 2.2 * lines), squeeze=False, sharey=True, layout="constrained"
    )
    for panel in grid.flat[1 + len(params) :]:
        panel.set_visible(False)
    for panel, name in zip(grid.flat, ("trial", *params), strict=False):
        # A hyper-parameter has a handful of values: they stand side by side, whatever their distance.
        levels = sorted({row[name] for row in rows})
        for row in rows:
            place = row[name] if name == "trial" else levels.index(row[name])
            face = "none" if row["pruned"] else _INK
            panel.plot([place], [row["validation_loss"]], color=_INK, marker="o", markersize=4, markerfacecolor=face)
        if name != "trial":
            panel.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
            panel.margins(x=0.15)
        panel.set_xlabel(name.replace("_", " "), fontsize=8)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    for row in grid:
        row[0].set_ylabel("validation loss", fontsize=8)
    best = min(row["validation_loss"] for row in rows)
    highest = sorted(row["validation_loss"] for row in rows)[int(0.8 * (len(rows) - 1))]
    grid.flat[0].set_ylim(best - 0.05 * (highest - best + 1e-3), highest + 0.05 * (highest - best + 1e-3))
    plot.savefig(path, metadata={"Date": None})
    pyplot.close(plot)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "mtorl"  # the same rows, the same file
    from matplotlib import pyplot

    return pyplot


def _columns(rows: Sequence[Mapping[str, Any]], *names: str) -> list[list[float]]:
    """The values of each name; a figure or an interval that does not exist is not drawn."""
    return [[math.nan if row[name] is None else row[name] for row in rows] for name in names]

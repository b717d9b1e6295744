"""A study as a picture with one panel per figure: differences to the reference, or a curve over a setting."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtorl_model.evaluation.metrics import top_name
from mtorl_model.studies.variants import REFERENCE

_HEADLINE_NAMES = {
    "f1_macro": "macro-F1",
    "accuracy": "accuracy",
    "auc": "AUC",
    top_name(0.375): "rate of the top 37.5 %",
    "recall_macro": "macro recall",
}
_OTHER_NAMES = {"precision_macro": "macro precision"}
_BLUE, _GREY = "#1f4e79", "#8a8a8a"


def display_name(figure: str) -> str:
    """The name of a figure for readers: "click AUC" for "click auc"."""
    head, name = figure.rsplit(" ", 1)
    return f"{head} {(_HEADLINE_NAMES | _OTHER_NAMES).get(name, name)}"


def headline(protocol: Mapping[str, Any], figures: Sequence[str]) -> list[str]:
    """The figures to show, without figures of the channel if it cannot be predicted."""
    names = [figure for figure in dict.fromkeys(figures) if figure.rsplit(" ", 1)[1] in _HEADLINE_NAMES]
    if not protocol["channel_predictable"]:
        names = [name for name in names if not name.startswith("channel")]
    # A budget is spent on the users with the highest predicted click: the other gains do not need the rate of the top.
    return [name for name in names if not name.endswith(top_name(0.375)) or name.startswith("click")]


def draw(rows: Sequence[Mapping[str, Any]], protocol: Mapping[str, Any], axis: str | None, path: Path) -> None:
    """Write the picture as SVG. axis: the name of a curve's axis; None: differences of the variants by name.

    The repetitions of the reference with other seeds are grey: they show the effect of another training alone.
    """
    pyplot = _pyplot()
    names = headline(protocol, [row["figure"] for row in rows])
    repetitions = protocol["repetitions"]
    left_out = repetitions if axis else (REFERENCE,)
    variants = list(dict.fromkeys(row["variant"] for row in rows if row["variant"] not in left_out))
    size = (2.6 * len(names) + 2.6 * (axis is None), 2.6 if axis else 1.2 + 0.28 * len(variants))
    plot, panels = pyplot.subplots(
        1, len(names), figsize=size, squeeze=False, sharey=axis is None, layout="constrained"
    )
    for panel, name in zip(panels[0], names, strict=True):
        figure_rows = [row for row in rows if row["figure"] == name]
        variant_rows = [row for row in figure_rows if row["variant"] in variants]
        panel.set_title(display_name(name), fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        if axis:
            repeated = [row["value"] for row in figure_rows if row["variant"] in repetitions]
            _draw_curve(panel, variant_rows, repeated, axis)
        else:
            _draw_differences(panel, variant_rows, repetitions)
    plot.savefig(path, metadata={"Date": None})
    pyplot.close(plot)


def _draw_curve(panel: Any, rows: Sequence[Mapping[str, Any]], repeated: Sequence[float], axis: str) -> None:
    """The figure over the setting. repeated: its values in the repetitions of the reference."""
    panel.fill_between(*_columns(rows, "at", "low", "high"), color=_BLUE, alpha=0.15, linewidth=0)
    panel.plot(*_columns(rows, "at", "value"), color=_BLUE, marker="o", markersize=3)
    panel.set_xlabel(axis, fontsize=8)
    reference = next(row["at"] for row in rows if row["variant"] == REFERENCE)
    panel.axvline(reference, color=_GREY, linewidth=0.8, linestyle=":")
    panel.plot([reference] * len(repeated), repeated, color=_GREY, marker="o", markersize=3, linestyle="none")


def _draw_differences(panel: Any, rows: Sequence[Mapping[str, Any]], repetitions: Sequence[str]) -> None:
    """One line per variant: its difference to the reference with the interval."""
    panel.axvline(0, color=_GREY, linewidth=0.8)
    for height, row in enumerate(reversed(rows)):
        color = _GREY if row["variant"] in repetitions else _BLUE
        low, high = _columns([row], "difference_low", "difference_high")
        panel.plot([*low, *high], [height, height], color=color)
        panel.plot([row["difference"]], [height], color=color, marker="o", markersize=4)
    panel.set_yticks(range(len(rows)), [row["variant"] for row in reversed(rows)], fontsize=8)
    panel.set_xlabel("difference to the reference", fontsize=8)
    panel.locator_params(axis="x", nbins=4)


def draw_protocols(rows: Sequence[tuple[str, tuple[float, float, float], float]], path: Path) -> None:
    """Write an SVG with a line per method, from its figure on unseen users to that of the published protocol.

    rows: the method, its published figure with low and high, and its figure on unseen users.
    """
    pyplot = _pyplot()
    plot, panel = pyplot.subplots(figsize=(6.4, 1.2 + 0.28 * len(rows)), layout="constrained")
    for height, (_, (published, low, high), unseen) in enumerate(reversed(rows)):
        panel.plot([unseen, published], [height, height], color=_GREY, linewidth=0.8)
        panel.plot([low, high], [height, height], color=_BLUE)
        first = {"unseen": "users never seen", "published": "published protocol"} if height == 0 else {}
        panel.plot(unseen, height, color=_GREY, marker="o", markersize=4, linestyle="none", label=first.get("unseen"))
        panel.plot(
            published, height, color=_BLUE, marker="o", markersize=4, linestyle="none", label=first.get("published")
        )
    panel.set_yticks(range(len(rows)), [method for method, *_ in reversed(rows)], fontsize=8)
    panel.set_xlabel("macro-F1 of the channel", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    plot.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    plot.savefig(path, metadata={"Date": None})
    pyplot.close(plot)


def draw_search(rows: Sequence[Mapping[str, Any]], params: Sequence[str], path: Path) -> None:
    """Write an SVG of the trials' validation loss over their order and each hyper-parameter; pruned ones are hollow."""
    pyplot = _pyplot()
    columns = 3
    lines = math.ceil((1 + len(params)) / columns)
    plot, grid = pyplot.subplots(
        lines, columns, figsize=(8, 2.2 * lines), squeeze=False, sharey=True, layout="constrained"
    )
    for panel in grid.flat[1 + len(params) :]:
        panel.set_visible(False)
    for panel, name in zip(grid.flat, ("trial", *params), strict=False):
        # A hyper-parameter has few values: they are drawn at equal distances.
        levels = sorted({row[name] for row in rows})
        for row in rows:
            position = row[name] if name == "trial" else levels.index(row[name])
            face = "none" if row["pruned"] else _BLUE
            loss = row["validation_loss"]
            panel.plot([position], [loss], color=_BLUE, marker="o", markersize=4, markerfacecolor=face)
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
    # The same rows give the same file. Other pictures of this process have other settings.
    matplotlib.rcParams |= {"svg.hashsalt": "mtorl", "svg.fonttype": "path"}
    from matplotlib import pyplot

    return pyplot


def _columns(rows: Sequence[Mapping[str, Any]], *names: str) -> list[list[float]]:
    """The values of each name; NaN, which is not drawn, for a figure or an interval that does not exist."""
    return [[math.nan if row[name] is None else row[name] for row in rows] for name in names]

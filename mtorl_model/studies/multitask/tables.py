"""The study of RMTL as text in Markdown, for the terminal and for docs/results.md."""

from collections.abc import Mapping, Sequence
from typing import Any

# Table 1 of the paper: KuaiRand-1K, another size of the same log; AUC, log loss and s-logloss of CTR, then of CTCVR.
PAPER: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "kuairand": {
        "single": (0.7003, 0.6127, 0.6263, 0.7342, 0.5233, 0.5449),
        "shared": (0.7018, 0.6114, 0.6250, 0.7310, 0.5249, 0.5468),
        "esmm": (0.7009, 0.6128, 0.6261, 0.7350, 0.5220, 0.5436),
        "mmoe": (0.7014, 0.6119, 0.6255, 0.7324, 0.5237, 0.5450),
        "ple": (0.7026, 0.6111, 0.6252, 0.7339, 0.5235, 0.5454),
        "esmm critics": (0.7031, 0.6111, 0.6252, 0.7377, 0.5200, 0.5433),
        "mmoe critics": (0.7029, 0.6105, 0.6243, 0.7345, 0.5225, 0.5446),
        "ple critics": (0.7053, 0.6092, 0.6242, 0.7367, 0.5221, 0.5447),
    }
}

USER_FOLDS = "user-folds"  # the protocol of user_folds.py

_FIGURES = {"auc": "AUC", "logloss": "log loss", "s_logloss": "s-logloss"}


def as_markdown(result: Mapping[str, Any]) -> list[str]:
    """Paragraphs and tables of one run of the study: the figures, the differences, and the verdict on the weights."""
    seeds = result["seeds"]
    return [
        f"{result['users']:,} users, {result['labels']:,} labels of exposures; protocol {result['protocol']}: "
        f"{result['users_in_parts']}. Preset {result['preset']}, mean of {seeds} training{'s' * (seeds > 1)} per row; "
        f"intervals: {result['interval']}. Sessions: {result['sessions']}. `{result['command']}`",
        _figures(result),
        "Differences (better: above 0 for AUC, below 0 for the losses); **bold**: the interval misses 0.",
        _differences(result),
        *(_verdict(result, network, helps) for network, helps in result["rmtl_helps"].items()),
    ]


def _figures(result: Mapping[str, Any]) -> str:
    """A row for each variant; in brackets its interval, and in the next cell the paper's figure."""
    columns = [(task, figure) for task in result["tasks"] for figure in _FIGURES]
    rows = {(row["variant"], row["figure"]): row for row in result["rows"]}
    paper = result["paper"]
    header = [""]
    for task, figure in columns:
        header += [f"{task} {_FIGURES[figure]}"] + ["paper (KuaiRand-1K)"] * bool(paper)
    table = [header]
    for variant in dict.fromkeys(row["variant"] for row in result["rows"]):
        cells, published = [variant], paper.get(variant)
        for k, (task, figure) in enumerate(columns):
            cells.append(_estimate(rows[variant, f"{task} {figure}"]))
            if paper:
                cells.append(f"{published[k]:.4f}" if published else "")
        table.append(cells)
    return _table(table)


def _differences(result: Mapping[str, Any]) -> str:
    names = [f"{task} {figure}" for task in result["tasks"] for figure in _FIGURES]
    by_pair: dict[tuple[str, str], dict[str, Any]] = {}
    for difference in result["differences"]:
        by_pair.setdefault((difference["variant"], difference["against"]), {})[difference["figure"]] = difference
    table = [["", *(f"{task} {_FIGURES[figure]}" for task in result["tasks"] for figure in _FIGURES)]]
    for (variant, reference), figures in by_pair.items():
        table.append([f"{variant} minus {reference}", *(_difference(figures[name]) for name in names)])
    return _table(table)


def _verdict(result: Mapping[str, Any], network: str, helps: bool) -> str:
    """The comparison with the controls, and with the network before it was trained again."""
    losses = "; ".join(
        f"{d['figure']} {_difference(d)}"
        for d in result["differences"]
        if (d["variant"], d["against"]) == (f"{network} critics", network) and d["figure"].endswith(" logloss")
    )
    return (
        f"RMTL on {network}: the weights {'help' if helps else 'do not help'} beyond their controls (a lower log loss "
        "than with `constant` and with `permuted` weights on a task, and no task worse). "
        f"Minus the same network before the retraining: {losses or 'not measured'}."
    )


def _estimate(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "-"
    text = f"{row['value']:.4f}"
    return text if row["low"] is None else f"{text} [{row['low']:.4f}, {row['high']:.4f}]"


def _difference(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "-"
    text = f"{row['value']:+.4f}"
    if row["low"] is None:
        return text
    text = f"{text} [{row['low']:+.4f}, {row['high']:+.4f}]"
    return f"**{text}**" if row["low"] > 0 or row["high"] < 0 else text


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])

"""Prints the results of a run: rows, the model's figures on users it has never seen, and the files to open.

python -m jobs.summary --dataset kuairand --lake lake [--from DAY] [--to DAY]
"""

from pathlib import Path
from typing import Any

from lakehouse.arguments import add_day_range, add_lake, dataset_of, dataset_parser, day_range_of, lake_of
from lakehouse.journeys import count_users
from lakehouse.lake import IF_METRICS_DAMAGED, Lake
from lakehouse.published_days import exposure_days
from lakehouse.storage.files import json_object, read_stored
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.errors import exit_with_one_line
from schemas.tables import (
    BUDGET_PLAN,
    CHANNEL_POLICIES,
    EXPOSURES,
    FUSION_WEIGHTS,
    JOURNEYS,
    QUARANTINE,
    TASK_PREDICTIONS,
    USER_REWARD_RANKS,
)


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    add_day_range(parser)
    args = parser.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    days = exposure_days(lake, dataset, *day_range_of(args))
    print(f"\nResults: {dataset.title}, {days[0]} to {days[-1]}")
    for line in (
        *row_lines(lake, dataset, days),
        *(line for file in lake.metrics_of_all(dataset) for line in metric_lines(file)),
        *path_lines(lake, dataset, days[-1]),
    ):
        print(line)


def row_lines(lake: Lake, dataset: Dataset, days: list[str]) -> list[str]:
    """The raw rows of these days: exposures, duplicates and quarantined rows; the users of the last day."""
    manifests = [manifest for day in days if (manifest := lake[EXPOSURES, dataset, day].manifest)]
    counts = {
        key: sum(m.counts.get(key, 0) for m in manifests)
        for key in ("rows_in", "duplicates", "outcomes", "quarantined")
    }
    undated = lake[QUARANTINE, dataset, UNDATED].manifest
    undated_rows = undated.rows if undated else 0
    undated_counts = {key: undated.counts.get(key, 0) if undated else 0 for key in ("duplicates", "outcomes")}
    counts = {key: count + undated_counts.get(key, 0) for key, count in counts.items()}
    journeys = lake[JOURNEYS, dataset, days[-1]].manifest
    rows = {
        "raw rows": counts["rows_in"] + undated_rows + sum(undated_counts.values()),
        "exposures": sum(m.rows for m in manifests),
        "duplicates": counts["duplicates"],
        **({"outcomes": counts["outcomes"]} if counts["outcomes"] else {}),
        "quarantined": counts["quarantined"] + undated_rows,
    }
    if journeys:
        rows["users"] = count_users(lake, dataset, days[-1])
    remark = {"quarantined": f"  ({undated_rows:,} of them without a day)" if undated_rows else ""}
    return ["rows", *(f"  {name:<15} {count:>12,}{remark.get(name, '')}" for name, count in rows.items())]


def metric_lines(metrics_file: Path) -> list[str]:
    """The figures of a method's model, of gradient boosting and of simple rules; empty before its first evaluation."""
    if not metrics_file.is_file():
        return []
    return read_stored(metrics_file, lambda text: _figures(json_object(text)), IF_METRICS_DAMAGED)


def _figures(metrics: dict[str, Any]) -> list[str]:
    return [
        f"model {metrics['model_version']}, tested on {metrics['users']:,} users it has never seen "
        f"({metrics['labels']:,} exposures)",
        f"  {'next channel':<15} {_channel_figures(metrics)}",
        *(f"  {gain:<15} {_gain_figures(metrics, gain)}" for gain in metrics["reward"]),
        *(_ranking_lines(metrics["ranking"]) if "ranking" in metrics else []),
        *([f"  {'channel policy':<15} {_policy_figures(metrics['policy'])}"] if metrics["channel"] else []),
        *_behind_boosting(metrics),
    ]


def _ranking_lines(ranking: dict[str, Any]) -> list[str]:
    """Of a method of fusion, whose metrics have the block `ranking`."""
    baselines = {"the model": ranking["mtf_gauc"], **ranking["baselines"]}
    figures = {name: "-" if block["value"] is None else f"{block['value']:.3f}" for name, block in baselines.items()}
    model_figure = figures.pop("the model")
    baseline_figures = ", ".join(f"{name} {figure}" for name, figure in figures.items())
    advice = [f"  {ranking['advice']}"] if ranking["advice"] else []
    value = ranking["value"]
    reward = (
        f"{value['minus_explored']['value']:+.4f} per ranking, compared with the explored actions"
        if value["identified"]
        else f"its value is not known: {value['why']}"
    )
    return [f"  {'ranking':<15} MTF-GAUC {model_figure} ({baseline_figures})", f"  {'reward':<15} {reward}", *advice]


def _policy_figures(policy: dict[str, Any]) -> str:
    if not policy["identified"]:
        return f"its value is not known: {policy['why']}"
    value, constant = policy["deterministic"]["dr"]["value"], policy["deterministic"]["minus_best_fixed"]["value"]
    difference = "" if constant is None else f" ({constant:+.3f} to always {policy['best_fixed_channel']})"
    return (
        f"recommended by {policy['basis']}: {value:.3f} per exposure{difference}; the log {policy['logging_value']:.3f}"
    )


def _behind_boosting(metrics: dict[str, Any]) -> list[str]:
    """Lines if the model's AUC of a gain is below that of gradient boosting, with what to do about it."""
    differences = {
        gain: baselines["gradient_boosting"]["auc"]
        for gain, baselines in metrics["model_minus_baseline"]["reward"].items()
        if "gradient_boosting" in baselines
    }
    below = {gain: auc for gain, auc in differences.items() if auc["value"] is not None and auc["value"] < 0}
    clearly = [gain for gain, auc in below.items() if auc["high"] is not None and auc["high"] < 0]
    lines = [
        f"  {gain}: the AUC is {abs(auc['value']):.3f} below that of gradient boosting, but the interval of the "
        f"difference is {auc['low']:+.3f} to {auc['high']:+.3f}: neither is shown to be better"
        for gain, auc in below.items()
        if gain not in clearly and auc["high"] is not None
    ]
    if clearly:
        lines += [
            f"  {', '.join(clearly)}: below gradient boosting, so the networks have learned too little for this log:",
            "  train on more days or users, or train the trees alone (python -m mtorl_model.train --method boosting)",
        ]
    return lines


def _channel_figures(metrics: dict[str, Any]) -> str:
    channel = metrics["channel"]
    if channel is None:
        return "not predicted by this method"
    if not channel["predictable"]:
        return "cannot be predicted in this log: the model is no better than the shares of the channels"
    boosting = metrics["baselines"]["channel"]["gradient_boosting"]
    return (
        f"macro-F1 {channel['f1_macro']:.3f} (gradient boosting {boosting['f1_macro']:.3f}, "
        f"repeating the last channel {channel['f1_macro_copy_previous']:.3f}); accuracy {channel['accuracy']:.3f}"
    )


def _gain_figures(metrics: dict[str, Any], gain: str) -> str:
    reward = metrics["reward"][gain]
    boosting = metrics["baselines"]["reward"][gain]["gradient_boosting"]
    auc, boosting_auc = ("-" if figures["auc"] is None else f"{figures['auc']:.3f}" for figures in (reward, boosting))
    return (
        f"AUC {auc} (gradient boosting {boosting_auc}); "
        f"log loss {reward['logloss']:.3f} (constant rate {reward['base_logloss']:.3f}); "
        f"rate {reward['rate_top_37.5pct']:.1%} in the top 37.5 % of the ranking, {reward['rate']:.1%} overall"
    )


def path_lines(lake: Lake, dataset: Dataset, day: str) -> list[str]:
    """The results that exist, each with its path."""
    paths = {
        "channel policies": lake[CHANNEL_POLICIES, dataset, day].consumer_file,
        "reward ranks": lake[USER_REWARD_RANKS, dataset, day].consumer_file,
        "task predictions": lake[TASK_PREDICTIONS, dataset, day].consumer_file,
        "fusion weights": lake[FUSION_WEIGHTS, dataset, day].consumer_file,
        "budget plan": lake[BUDGET_PLAN, dataset, day].consumer_file,
        "report page": lake.reports(dataset) / f"{day}.html",
        "audit results": lake.docs(dataset) / "index.html",
        "metrics": lake.metrics(dataset),
    }
    return [f"files of {day}", *(f"  {name:<17} {path}" for name, path in paths.items() if path.exists())]


if __name__ == "__main__":
    exit_with_one_line(main)

"""Print what a run has made of a log, and where it lies.

python -m jobs.summary --dataset kuairand --lake lake [--from DAY] [--to DAY]
"""

import json
from pathlib import Path
from typing import Any

from lakehouse.arguments import add_day_range, add_lake, dataset_of, dataset_parser, day_range_of, lake_of
from lakehouse.lake import Lake
from lakehouse.published_days import exposure_days
from schemas.days import UNDATED
from schemas.errors import exit_with_one_line
from schemas.tables import (
    BUDGET_PLAN,
    CHANNEL_POLICIES,
    EXPOSURES,
    JOURNEYS,
    QUARANTINE,
    USER_REWARD_RANKS,
)


def main() -> None:
    arguments = dataset_parser(__doc__)
    add_lake(arguments)
    add_day_range(arguments)
    args = arguments.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    days = exposure_days(lake, dataset, *day_range_of(args))
    for line in (
        f"{dataset.title}, {days[0]} to {days[-1]}",
        *_row_lines(lake, dataset.name, days),
        *_metric_lines(lake.metrics(dataset)),
        *_path_lines(lake, dataset.name, days[-1]),
    ):
        print(line)


def _row_lines(lake: Lake, dataset: str, days: list[str]) -> list[str]:
    manifests = [lake[EXPOSURES, dataset, day].manifest for day in days]
    counts = {
        key: sum(m.counts.get(key, 0) for m in manifests if m) for key in ("rows_in", "duplicates", "quarantined")
    }
    undated = lake[QUARANTINE, dataset, UNDATED].manifest
    unread = undated.rows if undated else 0
    users = lake[JOURNEYS, dataset, days[-1]].manifest
    return [
        f"  rows in         {counts['rows_in'] + unread:>12,}",
        f"  kept            {sum(m.rows for m in manifests if m):>12,}",
        f"  duplicates      {counts['duplicates']:>12,}",
        f"  quarantined     {counts['quarantined'] + unread:>12,}" + (f"  ({unread:,} undated)" if unread else ""),
        *([f"  users           {users.rows:>12,}"] if users else []),
    ]


def _metric_lines(metrics_file: Path) -> list[str]:
    if not metrics_file.is_file():
        return []
    metrics: dict[str, Any] = json.loads(metrics_file.read_text())
    channel, boosting = metrics["channel"], metrics["baselines"]
    next_channel = (
        "not predicted by this method"
        if channel is None
        else f"macro-F1 {channel['f1_macro']:.3f} (repeating the last one: "
        f"{channel['f1_macro_copy_previous']:.3f}, gradient boosting: "
        f"{boosting['channel']['gradient_boosting']['f1_macro']:.3f}), accuracy {channel['accuracy']:.3f}"
        if channel["predictable"]
        else "cannot be predicted here: no better than the channels' own shares"
    )
    lines = [
        f"{metrics['model_version']} on {metrics['users']:,} users it has never seen ({metrics['labels']:,} exposures)",
        f"  next channel    {next_channel}",
    ]
    for gain, reward in metrics["reward"].items():
        auc, boosted = (
            "-" if found["auc"] is None else f"{found['auc']:.3f}"
            for found in (reward, boosting["reward"][gain]["gradient_boosting"])
        )
        lines.append(
            f"  {gain:<15} AUC {auc} (gradient boosting: {boosted}), "
            f"log loss {reward['logloss']:.3f} (base rate: {reward['base_logloss']:.3f}); "
            f"{reward['rate_top_37.5pct']:.1%} among the top 37.5 %, {reward['rate']:.1%} overall"
        )
    return lines


def _path_lines(lake: Lake, dataset: str, day: str) -> list[str]:
    paths = {
        "channel policies": lake[CHANNEL_POLICIES, dataset, day].path,
        "reward ranks": lake[USER_REWARD_RANKS, dataset, day].path,
        "budget plan": lake[BUDGET_PLAN, dataset, day].path,
        "data docs": lake.docs(dataset) / "index.html",
        "metrics": lake.metrics(dataset),
        "report": lake.reports(dataset) / f"{day}.html",
    }
    return ["where"] + [f"  {name:<18}{path}" for name, path in paths.items() if path.exists()]


if __name__ == "__main__":
    exit_with_one_line(main)

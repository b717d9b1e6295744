"""The last screen of `make run`: rows, figures and files."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import summary
from lakehouse.lake import Lake
from lakehouse.storage.scratch import work_folder
from schemas.dataset import get_dataset
from schemas.days import UNDATED

KUAIRAND = get_dataset("kuairand")
DAYS = ["2022-05-01", "2022-05-02"]
CHANNEL = {"predictable": True, "f1_macro": 0.4, "f1_macro_copy_previous": 0.3, "accuracy": 0.5}
REWARD = {"auc": 0.7, "logloss": 0.5, "base_logloss": 0.6, "rate": 0.2, "rate_top_37.5pct": 0.3}
METRICS = {
    "model_version": "mtorl_kuairand/1",
    "users": 1000,
    "labels": 20000,
    "channel": CHANNEL,
    "reward": {"click": REWARD},
    "baselines": {
        "channel": {"gradient_boosting": {"f1_macro": 0.35}},
        "reward": {"click": {"gradient_boosting": {"auc": 0.65}}},
    },
    "model_minus_baseline": {
        "reward": {"click": {"gradient_boosting": {"auc": {"value": 0.05, "low": 0.04, "high": 0.06}}}}
    },
    "policy": {
        "identified": True, "basis": "value", "logging_value": 0.2, "best_fixed_channel": "short",
        "deterministic": {"dr": {"value": 0.25}, "minus_best_fixed": {"value": 0.01}},
    },
}  # fmt: skip


def publish(lake: Lake, table: str, day: str, rows: int, **counts: int) -> None:
    with work_folder() as staging:
        pq.write_table(pa.table({"x": range(rows)}), staging / "part-0.parquet")
        lake[table, "kuairand", day].publish(staging, inputs={}, code="c", counts=counts)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two days with exposures, duplicates and quarantined rows."""
    lake = Lake(tmp_path)
    for day in DAYS:
        publish(lake, "exposures", day, 1200, rows_in=1206, duplicates=4, quarantined=2)
    publish(lake, "quarantine", UNDATED, 1)
    publish(lake, "journeys", DAYS[-1], 90)
    return lake


def write_metrics(lake: Lake, **changes: object) -> Path:
    file = lake.root / "metrics.json"
    file.write_text(json.dumps({**METRICS, **changes}))
    return file


def test_every_raw_row_is_an_exposure_a_duplicate_or_quarantined(lake):
    title, *lines = summary.row_lines(lake, KUAIRAND, DAYS)
    numbers = {line[2:17].strip(): int(line[18:30].replace(",", "")) for line in lines}
    assert title == "rows"
    assert numbers == {"raw rows": 2413, "exposures": 2400, "duplicates": 8, "quarantined": 5, "users": 90}
    assert numbers["raw rows"] == numbers["exposures"] + numbers["duplicates"] + numbers["quarantined"]
    assert [line for line in lines if line.endswith("(1 of them without a day)")] == [lines[3]]


def test_figures_are_shown_beside_those_of_the_baselines(lake):
    title, channel, click, policy = summary.metric_lines(write_metrics(lake))
    assert title == "model mtorl_kuairand/1, tested on 1,000 users it has never seen (20,000 exposures)"
    assert " ".join(channel.split()) == (
        "next channel macro-F1 0.400 (gradient boosting 0.350, repeating the last channel 0.300); accuracy 0.500"
    )
    assert " ".join(click.split()) == (
        "click AUC 0.700 (gradient boosting 0.650); log loss 0.500 (constant rate 0.600); "
        "rate 30.0% in the top 37.5 % of the ranking, 20.0% overall"
    )
    assert " ".join(policy.split()) == (
        "channel policy recommended by value: 0.250 per exposure (+0.010 to always short); the log 0.200"
    )


def test_a_model_below_gradient_boosting_says_so_and_what_to_do(lake):
    low_auc = {"reward": {"click": {"gradient_boosting": {"auc": {"value": -0.05, "low": -0.06, "high": -0.04}}}}}
    *_, line, advice = summary.metric_lines(write_metrics(lake, model_minus_baseline=low_auc))
    assert "click: below gradient boosting" in line
    assert "train on more days or users" in advice
    unclear = {"reward": {"click": {"gradient_boosting": {"auc": {"value": -0.01, "low": -0.06, "high": 0.04}}}}}
    *_, line = summary.metric_lines(write_metrics(lake, model_minus_baseline=unclear))
    assert line == (
        "  click: the AUC is 0.010 below that of gradient boosting, but the interval of the difference is "
        "-0.060 to +0.040: neither is shown to be better"
    )


def test_a_value_that_is_not_known_is_explained(lake):
    policy = {"identified": False, "why": "the log has no propensities"}
    *_, line = summary.metric_lines(write_metrics(lake, policy=policy))
    assert line.endswith("its value is not known: the log has no propensities")


@pytest.mark.parametrize(
    ("changes", "line", "text"),
    [
        ({"channel": None}, 1, "not predicted by this method"),
        ({"channel": {**CHANNEL, "predictable": False}}, 1, "cannot be predicted in this log"),
        ({"reward": {"click": {**REWARD, "auc": None}}}, 2, "AUC - (gradient boosting 0.650)"),
    ],
)
def test_a_figure_that_does_not_exist_is_not_shown(lake, changes, line, text):
    assert text in summary.metric_lines(write_metrics(lake, **changes))[line]


def test_a_fusion_is_shown_beside_simple_rankings(lake):
    ranking = {
        "mtf_gauc": {"value": 0.61},
        "baselines": {"equal weights": {"value": 0.6}, "click alone": {"value": None}},
        "advice": "",
        "value": {"identified": False, "why": "no explored action is logged"},
    }
    lines = summary.metric_lines(write_metrics(lake, channel=None, reward={}, ranking=ranking))
    assert "  ranking         MTF-GAUC 0.610 (equal weights 0.600, click alone -)" in lines
    assert "  reward          its value is not known: no explored action is logged" in lines
    ranking["advice"] = "purchase: weight 0 in the reward"
    advised = summary.metric_lines(write_metrics(lake, channel=None, reward={}, ranking=ranking))
    assert advised == [*lines, "  purchase: weight 0 in the reward"]
    ranking["value"] = {"identified": True, "minus_explored": {"value": 0.0123}}
    valued = summary.metric_lines(write_metrics(lake, channel=None, reward={}, ranking=ranking))
    assert "  reward          +0.0123 per ranking, compared with the explored actions" in valued


def test_there_are_no_figures_before_the_first_evaluation(lake):
    assert summary.metric_lines(lake.root / "metrics.json") == []


def test_only_files_that_exist_are_named(lake):
    file = lake["channel_policies", "kuairand", DAYS[-1]].consumer_file
    file.parent.mkdir(parents=True)
    file.touch()
    assert summary.path_lines(lake, KUAIRAND, DAYS[-1]) == [f"files of {DAYS[-1]}", f"  channel policies  {file}"]


def test_the_days_of_the_range_are_summed(lake, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["summary", "--dataset", "kuairand", "--lake", str(lake.root), "--from", DAYS[1], "--to", DAYS[1]]
    )
    summary.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith(f", {DAYS[1]} to {DAYS[1]}")
    assert "  exposures              1,200" in lines

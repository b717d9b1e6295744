"""docs/results.md: its numbers are those of the files, missing files are left out, and findings are bold."""

import csv
import json

import pytest

from lakehouse.lake import Lake
from mtorl_model.studies.files import COLUMNS
from mtorl_model.studies.pictures import draw, draw_search
from mtorl_model.studies.results import results
from mtorl_model.studies.variants import REFERENCE
from schemas.errors import UserError

PROTOCOL = {
    "protocol": "by user", "dataset": "criteo", "study": "ablation", "question": "What does each part do?",
    "users": 1234, "labels": 56789, "channel_predictable": True, "repetitions": ["repetition"],
    "command": "make study DATASET=criteo STUDY=ablation",
}  # fmt: skip
FIGURES = ("channel f1_macro", "channel recall_macro", "click auc", "conversion auc", "click rate_top_37.5pct")


@pytest.fixture
def lake(tmp_path) -> Lake:
    folder = Lake(tmp_path / "lake").studies("criteo")
    folder.mkdir(parents=True)
    rows = [
        dict(zip(COLUMNS, (variant, None, figure, 0.75, 0.7, 0.8, *difference), strict=True))
        for variant, difference in (
            (REFERENCE, (None,) * 3),
            ("repetition", (0.01, -0.01, 0.03)),
            ("without DPO", (-0.0125, -0.0225, -0.0025)),
        )
        for figure in FIGURES
    ]
    rows[-1] |= {"difference_high": 0.0375}  # contains 0
    with (folder / "ablation.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    (folder / "ablation.json").write_text(json.dumps(PROTOCOL))
    draw(rows, PROTOCOL, None, folder / "ablation.svg")
    return Lake(tmp_path / "lake")


def test_a_study_is_shown_with_the_numbers_of_its_files(lake, tmp_path):
    text = results(lake, tmp_path / "docs" / "pictures")
    assert "## Criteo" in text
    assert "1,234 users, 56,789 labels; by user. `make study DATASET=criteo STUDY=ablation`" in text
    assert (
        "|  | channel macro-F1 | channel macro recall | click AUC | conversion AUC | click rate of the top 37.5 % |"
        in text
    )
    assert "| reference |" + " 0.750 [0.700, 0.800] |" * 5 in text
    finding = "**-0.013 [-0.022, -0.003]**"
    assert f"| without DPO | {finding} | {finding} | {finding} | {finding} | -0.013 [-0.022, +0.037] |" in text
    assert (tmp_path / "docs" / "pictures" / "criteo_ablation.svg").read_text().startswith("<?xml")
    assert "pictures/criteo_ablation.svg" in text
    assert "table 4" not in text  # without a search
    assert results(lake, tmp_path / "docs" / "pictures") == text


def test_a_difference_that_a_repetition_reaches_is_not_a_finding(lake, tmp_path):
    path = lake.studies("criteo") / "ablation.csv"
    path.write_text(
        path.read_text().replace("repetition,,click auc,0.75,0.7,0.8,0.01", "repetition,,click auc,0.75,0.7,0.8,0.0126")
    )
    row = next(line for line in results(lake, tmp_path / "pictures").splitlines() if line.startswith("| without DPO"))
    assert [cell.strip().startswith("**") for cell in row.split("|")[2:-1]] == [True, True, False, True, False]


def test_a_channel_that_cannot_be_predicted_has_no_f1(lake, tmp_path):
    path = lake.studies("criteo") / "ablation.json"
    path.write_text(json.dumps({**PROTOCOL, "channel_predictable": False}))
    assert "macro-F1" not in results(lake, tmp_path / "pictures").split("| reference |")[0].rsplit("|  |", 1)[1]


def test_the_search_and_the_published_protocol_have_sections(lake, tmp_path):
    folder = lake.studies("criteo")
    rows = [
        {"trial": 0, "validation_loss": 1.5, "epochs": 3, "pruned": False, "hidden": 128, "dropout": 0.1},
        {"trial": 1, "validation_loss": 1.25, "epochs": 3, "pruned": False, "hidden": 256, "dropout": 0.2},
        {"trial": 2, "validation_loss": 2.5, "epochs": 1, "pruned": True, "hidden": 256, "dropout": 0.1},
    ]
    with (folder / "search.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    summary = {"trials": 3, "pruned": 1, "protocol": "validation", "command": "make search", "dataset": "criteo",
            "preset_loss": 1.5}  # fmt: skip
    (folder / "search.json").write_text(
        json.dumps({**summary, "best": {"hidden": 256, "dropout": 0.2}, "best_loss": 1.25})
    )
    draw_search(rows, ["hidden", "dropout"], folder / "search.svg")
    published = {
        "windows": 4000, "epochs": 100, "hidden": 128, "f1_macro": 0.4321, "precision_macro": 0.5, "recall_macro": 0.4,
        "intervals": {"f1_macro": [0.41, 0.45], "precision_macro": [0.48, 0.52], "recall_macro": [0.38, 0.42]},
        "seed": 0,
        "dataset": "criteo", "share_of_test_steps_also_in_training": 0.38, "command": "make benchmark-published",
        "paper": {"f1_macro": 0.5002, "precision_macro": 0.5424, "recall_macro": 0.4893},
    }  # fmt: skip
    (folder / "published.json").write_text(json.dumps(published))
    text = results(lake, tmp_path / "pictures")
    assert "3 trials, 1 of them pruned" in text
    assert "hidden 256, dropout 0.2, with a validation loss of 1.2500" in text
    assert "the preset's own values have 1.5000" in text
    assert "38% of the test steps are also in training windows" in text
    assert "| test macro-F1 | 0.432 [0.410, 0.450] | 0.5002 |" in text


def test_a_lake_without_figures_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no figures in .*make run, make study"):
        results(Lake(tmp_path), tmp_path / "pictures")


def test_sections_of_other_lakes_remain_and_own_ones_are_replaced(lake, tmp_path):
    text = results(lake, tmp_path / "pictures")
    heading = "### What does each part do?"
    assert heading in text
    earlier = (
        "# Results\n\nAn introduction.\n\n## Another log\n\n### On users never seen\n\nKept figures.\n\n"
        f"{text[text.index('## Criteo') :].replace('0.750', '0.123')}\n### A search\n\nFound."
    )
    merged = results(lake, tmp_path / "pictures", earlier)
    assert "An introduction." not in merged
    assert "0.123" not in merged
    assert merged.count(heading) == merged.count("# Results") == 1
    assert merged.index("## Another log\n\n### On users never seen\n\nKept figures.\n\n## Criteo") > 0
    assert merged.endswith("### A search\n\nFound.\n")
    assert results(lake, tmp_path / "pictures", merged) == merged


def test_the_study_of_rmtl_has_its_figures_differences_and_the_papers(lake, tmp_path):
    figures = [f"{task} {figure}" for task in ("click", "both") for figure in ("auc", "logloss", "s_logloss")]
    row = {"value": 0.7312, "low": 0.72, "high": 0.74}
    gap = {"value": -0.0021, "low": -0.003, "high": -0.001}
    result = {
        "users": 1786, "labels": 17783, "protocol": "unseen-users", "users_in_parts": "no user is in two parts",
        "preset": "small", "seeds": 2, "interval": "95 %", "sessions": "a visit", "command": "make study STUDY=rmtl",
        "tasks": ["click", "both"], "paper": {"mmoe": [0.7014, 0.6119, 0.6255, 0.7324, 0.5237, 0.545]},
        "rows": [{"variant": name, "figure": figure, **row} for name in ("boosting", "mmoe") for figure in figures],
        "differences": [
            {"variant": variant, "against": reference, "figure": figure, **gap}
            for variant, reference in (("mmoe", "boosting"), ("mmoe critics", "mmoe"))
            for figure in figures
        ],
        "rmtl_helps": {"mmoe": False},
    }  # fmt: skip
    (lake.studies("criteo") / "rmtl_unseen-users.json").write_text(json.dumps(result))
    text = results(lake, tmp_path / "pictures")
    section = text[text.index("### RMTL: table 1 of its paper, protocol unseen-users") :]
    assert "1,786 users, 17,783 labels of exposures; protocol unseen-users: no user is in two parts" in section
    assert "mean of 2 trainings per row" in section
    assert "| mmoe | 0.7312 [0.7200, 0.7400] | 0.7014 | 0.7312 [0.7200, 0.7400] | 0.6119 |" in section
    assert "| mmoe minus boosting | **-0.0021 [-0.0030, -0.0010]** |" in section
    assert "RMTL on mmoe: the weights do not help beyond their controls" in section
    assert "Minus the same network before the retraining: click logloss **-0.0021 [-0.0030, -0.0010]**; both" in section


def test_each_method_has_its_figures_on_users_never_seen(lake, tmp_path):
    figures = {"auc": 0.7272, "logloss": 0.6, "rate": 0.45, "base_logloss": 0.69, "ece": 0.01, "s_logloss": 0.6034,
               "rate_top_10pct": 0.7, "rate_top_37.5pct": 0.64}  # fmt: skip
    block = {**figures, "intervals": dict.fromkeys(figures, (0.1, 0.9))}
    gap = {"value": 0.0033, "low": 0.001, "high": 0.006}
    metrics = {
        "model_version": "rmtl_criteo/1", "users": 1972, "labels": 17377, "protocol": "unseen-users", "channel": None,
        "reward": {"click": block}, "policy": {"identified": False, "why": "no channel"},
        "baselines": {"gradient_boosting_fitted_on_labels": 9, "reward": {"click": {"gradient_boosting": block}}},
        "model_minus_baseline": {"reward": {"click": {"gradient_boosting": dict.fromkeys(figures, gap)}}},
    }  # fmt: skip
    path = lake.metrics("criteo", "rmtl")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(metrics))
    text = results(lake, tmp_path / "pictures")
    section = text[text.index("### On users never seen: RMTL") :]
    assert (
        "champion rmtl_criteo/1, one training; protocol unseen-users. `make run DATASET=criteo RAW=… METHOD=rmtl`"
        in section
    )
    assert "| click | AUC | log loss | rate of the top 10 % | of the top 37.5 % | s-logloss |" in section
    assert "| RMTL | 0.727 [0.100, 0.900] |" in section
    assert "| RMTL minus gradient boosting | **+0.003 [+0.001, +0.006]** |" in section


@pytest.mark.parametrize("name", ["ablation", "search", "fusion", "published", "published_bc", "baselines",
                                  "rmtl_unseen-users"])  # fmt: skip
@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_damaged_result_of_a_study_is_one_line(tmp_path, name, content):
    lake = Lake(tmp_path / "lake")
    file = lake.studies("criteo") / f"{name}.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    file.with_suffix(".csv").touch()
    with pytest.raises(UserError, match=r"is damaged .*run the study again") as error:
        results(lake, tmp_path / "pictures")
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)

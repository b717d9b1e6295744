"""The figures of the report, computed by hand, and their place in a document."""

import json

import numpy as np
import pytest

from schemas.errors import UserError
from simulation.report import PICTURE, TABLE, insert_into, write_report

NAMES = (
    "tastes in pairs", "MTORL in pairs", "boosting ranking", "boosting of pairs", "popularity", "random",
    "informed", "oracle", "records in pairs", "MTORL as published",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    runs = [{"code": "x", "users": 7, "rounds": 2, "training_users": 30, "models": ["a", "b"]}]
    for share, seeds in ((0.1, 2), (0.2, 3)):
        for seed in range(seeds):
            for k, name in enumerate(NAMES):
                reward = 10.0 * (k + 1) * (1 + seed)
                run = {"strategy": name, "share": share, "seed": seed, "budget_nano": 100, "exposures": [5, 5]}
                runs.append({**run, "expected": [reward / 2] * 2, "realised": [0, 0], "spent_nano": [40, 50]})
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs))
    write_report(tmp_path, tmp_path / "runs.jsonl", "python -m simulation.compare --users 7")
    return tmp_path


def test_means_intervals_and_paired_differences(folder):
    lines = (folder / TABLE).read_text().splitlines()
    assert lines[0] == "`python -m simulation.compare --users 7`"
    assert lines[2].startswith("7 users per seed, 2 rounds, 2 trainings on 30 other users each")
    assert lines[4] == "20% of the full budget, 3 seeds."
    row = next(line for line in lines if line.startswith("| random |")).split(" | ")
    # The rewards are 60, 120, 180; for the first strategy 10, 20, 30, and for the oracle 80, 160, 240.
    half = 4.302652729696142 * 60 / np.sqrt(3)  # Student's t with 2 degrees of freedom
    assert row[1] == f"120.00 [{120 - half:.2f}, {120 + half:.2f}]"
    assert row[2] == "12.0000"
    assert row[3] == "75.0% [75.0%, 75.0%]"
    assert row[4].startswith("40.00 [")
    assert row[5].startswith("-100.00 [")
    assert row[6:] == ["10", "90.0% |"]


def test_the_table_goes_between_the_marks(folder, tmp_path):
    document = tmp_path / "budget.md"
    document.write_text("before\n<!-- comparison -->\nold\n<!-- /comparison -->\nafter\n")
    for _ in range(2):
        insert_into(document, folder / TABLE, folder / PICTURE, "reward and regret by budget")
        text = document.read_text()
        assert text.startswith("before\n<!-- comparison -->\n`python -m simulation.compare")
        assert text.endswith("![reward and regret by budget](budget.svg)\n<!-- /comparison -->\nafter\n")
        assert "old" not in text
    assert (tmp_path / "budget.svg").read_bytes() == (folder / PICTURE).read_bytes()
    document.write_text("no marks")
    with pytest.raises(UserError, match="needs the lines"):
        insert_into(document, folder / TABLE, folder / PICTURE, "reward and regret by budget")


def test_a_budget_with_one_seed_has_no_interval(folder):
    runs = (folder / "runs.jsonl").read_text().splitlines()
    one_seed = [line for line in runs if '"share": 0.1, "seed": 1' not in line]
    (folder / "runs.jsonl").write_text("\n".join(one_seed) + "\n")
    write_report(folder, folder / "runs.jsonl", "python -m simulation.compare")
    text = (folder / TABLE).read_text()
    assert "| random | 75.0% |" in text
    assert "nan" not in text

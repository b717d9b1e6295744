"""The comparison end to end on a handful of users: every strategy within the same budget, and a report."""

import json
import sys

import pytest

from simulation import compare, learning
from simulation.compare import RUNS, full_budget, strategies
from simulation.learning import learn
from simulation.report import PICTURE, TABLE
from simulation.simulator import Simulator


@pytest.mark.slow
def test_every_strategy_runs_and_the_report_names_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(learning, "TRAIN", learning.replace(learning.TRAIN, max_epochs=1))
    monkeypatch.setattr(compare, "CURVE_SHARES", (0.2, 0.4))
    arguments = ["--out", str(tmp_path), "--users", "150", "--seeds", "2", "--curve-seeds", "1", "--rounds", "2",
                 "--training-users", "150"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    compare.main()
    lines = [json.loads(line) for line in (tmp_path / RUNS).read_text().splitlines()]
    names = {run["strategy"] for run in lines[1:]}
    assert len(lines) == 1 + len(names) * 3
    for run in lines[1:]:
        assert 0.3 * run["budget_nano"] < sum(run["spent_nano"]) <= run["budget_nano"], run["strategy"]
        assert sum(run["exposures"]) > 0
    budgets = {(run["share"], run["budget_nano"]) for run in lines[1:]}
    assert len(budgets) == 2  # one a share, whoever spends it
    earned = {run["strategy"]: sum(run["expected"]) for run in lines[1:] if run["share"] == 0.2 and run["seed"] == 0}
    assert max(earned, key=earned.get) == "oracle"
    table = (tmp_path / TABLE).read_text()
    assert all(f"| {name} |" in table for name in names)
    assert (tmp_path / PICTURE).read_text().rstrip().endswith("</svg>")

    content = (tmp_path / RUNS).read_bytes()
    (tmp_path / RUNS).write_bytes(content[: content.rindex(b"\n", 0, -1) + 1])  # started again without the last run
    compare.main()
    assert (tmp_path / RUNS).read_bytes() == content
    capsys.readouterr()


@pytest.mark.slow
def test_a_log_without_channel_effects_gives_every_channel_its_due(monkeypatch):
    monkeypatch.setattr(learning, "TRAIN", learning.replace(learning.TRAIN, max_epochs=1))
    learned = learn(150, say=lambda line: None)
    assert learned.level.initial_A.sum() == pytest.approx(1.0)
    assert learned.level.counts.exposures_A.argmax() == 0  # three fifths of the log
    assert full_budget(learned, 20, 10) == pytest.approx(2 * full_budget(learned, 10, 10))
    first, *_ = strategies(learned, Simulator(1, 0))
    assert first == "MTORL, both levels"
    labels = learned.level.counts.exposures_A.sum()
    assert labels == learned.boosting.labels

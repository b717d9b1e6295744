"""The comparison from end to end with a few users: every strategy within the same budget, and a report."""

import json
import sys
from functools import partial

import pytest

from mtorl_model.methods.common.label_trees import TreesConfig
from schemas.errors import UserError
from simulation import compare, learning
from simulation.compare import RUNS, full_budget, strategies
from simulation.learning import Learned, learn
from simulation.report import FIRST, PICTURE, TABLE
from simulation.simulator import Simulator

TRAINING_USERS = 150


@pytest.fixture(scope="module")
def trainings():
    """The two trainings of the comparison, short ones: one epoch, and few trees."""
    few_trees = partial(TreesConfig, channel_iterations=8, gain_iterations=8)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(learning, "TRAIN", learning.replace(learning.TRAIN, max_epochs=1))
        monkeypatch.setattr(learning, "TreesConfig", few_trees)
        yield [learn(TRAINING_USERS, number, log=lambda line: None) for number in range(2)]


@pytest.mark.slow
def test_every_strategy_runs_and_the_report_names_it(tmp_path, monkeypatch, capsys, trainings):
    def learn_once(users: int, number: int, methods: list[str]) -> Learned:
        assert users == TRAINING_USERS
        assert methods == []
        return trainings[number]

    monkeypatch.setattr(compare, "learn", learn_once)
    monkeypatch.setattr(compare, "CURVE_SHARES", (0.2, 0.4))
    arguments = ["--out", str(tmp_path), "--users", "150", "--seeds", "2", "--curve-seeds", "1", "--rounds", "2",
                 "--training-users", str(TRAINING_USERS), "--trainings", "2"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    compare.main()
    lines = [json.loads(line) for line in (tmp_path / RUNS).read_text().splitlines()]
    names = {run["strategy"] for run in lines[1:]}
    assert len(lines) == 1 + len(names) * 3
    for run in lines[1:]:
        assert 0.3 * run["budget_nano"] < sum(run["spent_nano"]) <= run["budget_nano"], run["strategy"]
        assert sum(run["exposures"]) > 0
    budgets = {(run["share"], run["budget_nano"]) for run in lines[1:]}
    assert len(budgets) == 3  # one for each share and training, the same for all strategies
    assert len(set(lines[0]["models"])) == 2
    rewards = {run["strategy"]: sum(run["expected"]) for run in lines[1:] if run["share"] == 0.2 and run["seed"] == 0}
    assert max(rewards, key=rewards.get) == "oracle"
    table = (tmp_path / TABLE).read_text()
    assert all(f"| {name} |" in table for name in names)
    assert (tmp_path / PICTURE).read_text().rstrip().endswith("</svg>")

    content = (tmp_path / RUNS).read_bytes()
    (tmp_path / RUNS).write_bytes(content[: content.rindex(b"\n", 0, -1) + 1])  # started again without the last run
    compare.main()
    assert (tmp_path / RUNS).read_bytes() == content
    (tmp_path / RUNS).write_bytes(content[:-9])  # killed in the middle of a line
    compare.main()
    assert (tmp_path / RUNS).read_bytes() == content
    assert "`python -m simulation.compare --users 150 --seeds 2 --curve-seeds 1 --rounds 2" in table
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], "1"])
    with pytest.raises(UserError, match=r"contains campaigns with other models: name another folder"):
        compare.main()
    assert (tmp_path / RUNS).read_bytes() == content  # finished campaigns are never removed
    capsys.readouterr()


@pytest.mark.slow
def test_further_methods_spend_the_budget_by_the_published_rule(tmp_path, monkeypatch, capsys):
    methods = ["wide_and_deep", "bc"]
    few_trees = partial(TreesConfig, channel_iterations=8, gain_iterations=8)
    monkeypatch.setattr(learning, "TRAIN", learning.replace(learning.TRAIN, max_epochs=1))
    monkeypatch.setattr(learning, "TreesConfig", few_trees)
    monkeypatch.setattr(compare, "CURVE_SHARES", ())
    arguments = ["--out", str(tmp_path), "--users", "150", "--seeds", "2", "--rounds", "2", "--training-users",
                 str(TRAINING_USERS), "--trainings", "1", "--methods", *methods]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    compare.main()
    lines = [json.loads(line) for line in (tmp_path / RUNS).read_text().splitlines()]
    names = {run["strategy"] for run in lines[1:]}
    assert names == {*compare.TABLE_3, "wide_and_deep as published", "bc as published"}
    assert all(0 < sum(run["spent_nano"]) <= run["budget_nano"] for run in lines[1:])
    spent = {run["strategy"]: run["spent_nano"] for run in lines[1:] if run["seed"] == 0}
    assert spent["wide_and_deep as published"] != spent["bc as published"] != spent["MTORL as published"]
    table = (tmp_path / TABLE).read_text()
    assert "--methods wide_and_deep bc`" in table
    assert all(f"| {name} |" in table for name in names)
    learned = learn(TRAINING_USERS, 0, methods, log=lambda line: None)
    by_name = strategies(learned, Simulator(1, 0))
    assert by_name["wide_and_deep as published"].user_level
    assert not by_name["bc as published"].user_level  # it predicts no gains by which users could be ranked
    assert by_name["bc as published"].level is learned.table_2["bc"][1]
    monkeypatch.setattr(sys, "argv", ["compare", *arguments[:-1]])
    with pytest.raises(UserError, match="contains campaigns with other methods"):
        compare.main()
    capsys.readouterr()


@pytest.mark.slow
def test_a_training_is_repeated_exactly(trainings):
    """A comparison that is started again has the same models."""
    repeated = learn(TRAINING_USERS, 1, log=lambda line: None)
    assert compare.weights_digest(repeated) == compare.weights_digest(trainings[1])
    assert compare.weights_digest(repeated) != compare.weights_digest(trainings[0])


@pytest.mark.slow
def test_everything_is_learned_from_the_complete_log(trainings):
    learned = trainings[0]
    assert learned.level.counts.exposures_A.argmax() == 0  # three fifths of the log
    counts = learned.level.counts
    log_cost = int(counts.cost_A.sum() + counts.cost_gained_A.sum())
    assert full_budget(learned, 1, int(counts.exposures_A.sum())) == pytest.approx(log_cost)
    first, *_ = strategies(learned, Simulator(1, 0))
    assert first == FIRST
    labels = learned.level.counts.exposures_A.sum()
    assert labels == learned.boosting.labels

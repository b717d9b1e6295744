"""The nightly plan: from published scores to a partition within the budget, and its audit."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lakes import republish, unpublish
from synthetic_journeys import CHANNELS, SPEC, Shown, journeys, publish_journeys, toy_dataset

from jobs.quality.audits import audit_partition
from lakehouse.lake import Lake
from lakehouse.models.versions import Version
from lakehouse.storage.scratch import work_folder
from mtorl_model import plan_budget, score
from mtorl_model.budget.click_record import NO_EXPOSURE, ClickRecord
from mtorl_model.budget.pair_reward import KAPPA
from mtorl_model.budget.predicted_gains import predicted_gains
from mtorl_model.budget.taste_fit import fit_tastes
from mtorl_model.champion.registry import Registry
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.training.config import TrainConfig
from schemas.candidates import ImpliedLabel
from schemas.dataset import NO_COST, Dataset
from schemas.errors import Busy, UserError, exit_with_one_line
from schemas.tables import TASK_PREDICTIONS
from schemas.tables.candidates.task_predictions import score_names

ROOT = Path(__file__).resolve().parent.parent.parent
TOY = toy_dataset()
DAY = "2024-01-02"
INITIAL = InitialPolicy(CHANNELS, (0.5, 0.3, 0.2), {"click": 0.25, "sale": 0.125}, (0.5, 0.3, 0.2))


def untrained() -> MTORL:
    config = MTORLConfig(ModelConfig(hidden=16, dropout=0.3, steps=6), LossConfig(), TrainConfig(seed=1))
    return MTORL(config, SPEC, INITIAL).initialise()


def use_champion(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    version = Version(f"mtorl_toy/{number}", number, "run", DAY, "")
    monkeypatch.setattr(Registry, "champion", lambda _: version)
    monkeypatch.setattr(Registry, "load", lambda _, version: untrained())


def random_users(count: int, cost: float = 0.25) -> dict[int, list[Shown]]:
    rng = np.random.default_rng(0)

    def random_exposure() -> Shown:
        channel = rng.choice([*CHANNELS, None], p=[0.4, 0.3, 0.2, 0.1])
        click = int(rng.random() < 0.3)
        return Shown(channel, click, 0, "spring", cost * (1 + 2 * click) * (2 if channel == "mid" else 1))

    users = rng.choice(10_000, count, replace=False)
    return {int(user): [random_exposure() for _ in range(rng.integers(1, 9))] for user in users}


@pytest.fixture(scope="module")
def scored_lake(tmp_path_factory):
    """A lake with the scores of 80 users, built once."""
    lake = Lake(tmp_path_factory.mktemp("scored") / "lake")
    publish_journeys(lake, DAY, journeys(random_users(80)), files=3)
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_champion(monkeypatch, 1)
        score.score_day(Registry(lake, TOY), DAY)
    return lake


@pytest.fixture
def lake(scored_lake, tmp_path, monkeypatch):
    """A copy of the scored lake for one test."""
    use_champion(monkeypatch, 1)
    shutil.copytree(scored_lake.root, tmp_path / "lake")
    return Lake(tmp_path / "lake")


def published(lake: Lake, name: str) -> pa.Table:
    return lake[name, "toy", DAY].read()


@pytest.mark.parametrize("budget", [0, 1, 3_000_000_000, 10**12])
def test_a_plan_passes_its_audit_and_stays_within_the_budget(lake, budget):
    manifest, plan = plan_budget.plan_day(lake, TOY, DAY, budget)
    table = published(lake, "budget_plan")
    audit = audit_partition(lake, "budget_plan", TOY, DAY)
    assert audit.verdict == "pass", [o.name for o in audit.failed]
    assert audit_partition(lake, "channel_allocation", TOY, DAY).verdict == "pass"
    selected = np.array(table.column("selected").to_pylist())
    cost, reward = (table.column(c).to_numpy() for c in ("expected_cost_nano", "expected_reward"))
    assert cost[selected].sum() == manifest.counts["spend_nano"] <= budget
    assert reward[selected].sum() == pytest.approx(plan.reward)
    assert table.column("user_id").to_pylist() == published(lake, "channel_policies").column("user_id").to_pylist()
    assert manifest.counts["selected"] == selected.sum()
    assert selected.any() == (budget > 1)
    assert selected.all() == (budget == 10**12)


def test_expected_rewards_and_costs_follow_from_the_published_tables(lake):
    """One pair by hand: prediction, policy, record and channel level from the tables, costs from the journeys."""
    plan_budget.plan_day(lake, TOY, DAY, 3_000_000_000, valuation=plan_budget.COMPOSED)
    users = random_users(80)
    row = next(r for r in published(lake, "budget_plan").to_pylist() if r["source"] == "model" and r["selected"])
    levels = {r["channel"]: r for r in published(lake, "channel_allocation").to_pylist()}
    policy = dict(
        next(r for r in published(lake, "channel_policies").to_pylist() if r["user_id"] == row["user_id"])["policy"]
    )
    rank = next(r for r in published(lake, "user_reward_ranks").to_pylist() if r["user_id"] == row["user_id"])
    record = [e for e in users[row["user_id"]] if e.channel == row["channel"]]
    mean_initial = np.prod([levels[c]["initial"] ** policy[c] for c in CHANNELS])
    odds = rank["predicted_click"] / (1 - rank["predicted_click"]) * levels[row["channel"]]["initial"] / mean_initial
    click = (sum(e.click for e in record) + KAPPA * odds / (1 + odds)) / (len(record) + KAPPA)
    assert row["expected_reward"] == pytest.approx(rank["predicted_reward"] * click / rank["predicted_click"])
    remembered = [e for exposures in users.values() for e in exposures[-5:] if e.channel in CHANNELS]
    assert sum(level["exposures"] for level in levels.values()) == len(remembered)
    assert sum(level["gained"] for level in levels.values()) == sum(e.click for e in remembered)
    assert sum(level["cost_nano"] + level["cost_gained_nano"] for level in levels.values()) == pytest.approx(
        1e9 * sum(e.cost for e in remembered)
    )

    def mean_cost(channel: str, clicked: bool) -> float:
        exposures = [e for e in remembered if e.click == clicked]
        costs = [e.cost for e in exposures if e.channel == channel]
        return (sum(costs) + 10 * np.mean([e.cost for e in exposures])) / (len(costs) + 10)

    expected = mean_cost(row["channel"], False) * (1 - click) + mean_cost(row["channel"], True) * click
    assert row["expected_cost_nano"] == pytest.approx(1e9 * expected, abs=2)


def test_pairs_are_valued_by_tastes_that_are_fitted_on_the_journeys(lake):
    """The same values from the plain lists of exposures; all clicks have the mean gains of all predictions."""
    plan_budget.plan_day(lake, TOY, DAY, 3_000_000_000)
    users = random_users(80)
    plan = {row["user_id"]: row for row in published(lake, "budget_plan").to_pylist()}
    rows = [
        (number, 60_000 * t, CHANNELS.index(e.channel) if e.channel in CHANNELS else NO_EXPOSURE, e.click)
        for number, user in enumerate(users)
        for t, e in enumerate(users[user])
    ]
    record = ClickRecord.from_exposures(*np.array(rows).T, users=80, actions=3)
    click_UA = fit_tastes(record, 3).click(record, np.full(80, TOY.end_of_day_ms(DAY)))
    ranks = published(lake, "user_reward_ranks")
    gain = ranks.column("predicted_reward").to_numpy().mean() / ranks.column("predicted_click").to_numpy().mean()
    for number, user in enumerate(users):
        channel = CHANNELS.index(plan[user]["channel"])
        assert plan[user]["expected_reward"] == pytest.approx(min(gain * click_UA[number, channel], 1.0), rel=1e-6)
    plan_budget.plan_day(lake, TOY, DAY, 3_000_000_000, valuation=plan_budget.COMPOSED)
    composed = {row["user_id"]: row for row in published(lake, "budget_plan").to_pylist()}
    assert composed != plan  # another valuation is another plan, of the same budget


def test_a_click_that_becomes_known_late_is_valued_by_the_composition(lake, monkeypatch):
    """Then the remembered steps do not show which exposures were clicked."""
    composed, _ = plan_budget.plan_day(lake, TOY, DAY, 3_000_000_000, valuation=plan_budget.COMPOSED)
    monkeypatch.setattr(Dataset, "late_gains", ("click", "sale"))
    assert plan_budget.plan_day(lake, TOY, DAY, 3_000_000_000) == (composed, None)


def test_without_costs_the_budget_is_a_number_from_exposures(lake):
    publish_journeys(lake, DAY, journeys(random_users(80, cost=0.0)))
    score.score_day(Registry(lake, TOY), DAY)
    manifest, _ = plan_budget.plan_day(lake, replace(TOY, cost=NO_COST), DAY, 7_900_000_000)
    assert manifest.counts == {"selected": 7, "spend_nano": 7_000_000_000}


def test_a_day_without_costs_does_not_change_the_unit_of_the_budget(lake):
    """In a log with costs, a budget of 2.5 buys neither two exposures nor exposures at no cost."""
    publish_journeys(lake, DAY, journeys(random_users(80, cost=0.0)))
    score.score_day(Registry(lake, TOY), DAY)
    with pytest.raises(UserError, match=r"no exposure of toy .* has a cost"):
        plan_budget.plan_day(lake, TOY, DAY, 2_500_000_000)


def test_a_valid_plan_stays_unchanged_and_a_new_scoring_keeps_its_budget(lake, monkeypatch):
    """The nightly run passes no budget, or only the default one."""
    planned, _ = plan_budget.plan_day(lake, TOY, DAY, 2_500_000_000)
    for default in (0, 9_000_000_000):
        unchanged, plan = plan_budget.plan_day(lake, TOY, DAY, None, default=default)
        assert (unchanged, plan) == (planned, None)
    use_champion(monkeypatch, 2)
    score.score_day(Registry(lake, TOY), DAY)
    renewed, plan = plan_budget.plan_day(lake, TOY, DAY, None, default=9_000_000_000)
    assert renewed.inputs["budget_nano"] == "2500000000"
    assert renewed.inputs != planned.inputs
    assert plan is not None
    changed, _ = plan_budget.plan_day(lake, TOY, DAY, 1_000_000_000)
    assert changed.inputs["budget_nano"] == "1000000000"


def test_the_default_budget_is_for_days_without_a_budget(lake):
    empty, _ = plan_budget.plan_day(lake, TOY, DAY, None)
    assert empty.counts["selected"] == 0
    manifest, _ = plan_budget.plan_day(lake, TOY, DAY, None, default=3_000_000_000)
    assert manifest.counts["selected"] > 0
    assert manifest.inputs["budget_nano"] == "3000000000"


@pytest.mark.parametrize("table", [*score.SCORE_TABLES, "journeys"])
def test_a_plan_whose_inputs_are_published_again_while_they_are_read_is_not_published(lake, table, monkeypatch):
    best_pairs = plan_budget.best_pairs

    def replaced(*args):
        republish(lake[table, "toy", DAY])
        return best_pairs(*args)

    with monkeypatch.context() as patch:
        patch.setattr(plan_budget, "best_pairs", replaced)
        with pytest.raises(Busy, match=f"toy/{table}/ds={DAY} was published again while it was read: run again"):
            plan_budget.plan_day(lake, TOY, DAY, 10)
    assert lake["budget_plan", "toy", DAY].manifest is None


def test_the_printed_budget_is_exact(lake, monkeypatch, capsys):
    monkeypatch.setattr(plan_budget, "dataset_of", lambda args: TOY)
    monkeypatch.setattr(sys, "argv", ["plan", "--dataset", "toy", "--lake", str(lake.root), "--day", DAY,
                                      "--budget=10000000.000000001"])  # fmt: skip
    plan_budget.main()
    assert " of 10000000.000000001: " in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", sys.argv[:-1])
    plan_budget.main()
    assert capsys.readouterr().out.splitlines()[0].endswith(" of 10000000.000000001: unchanged")


def test_scores_from_other_journeys_are_refused(lake):
    publish_journeys(lake, DAY, journeys(random_users(81)))
    with pytest.raises(UserError, match="not all from the same journeys and model: score again"):
        plan_budget.plan_day(lake, TOY, DAY, 10)


def test_a_day_without_scores_is_refused(lake):
    with pytest.raises(UserError, match="no channel_policies for toy on 2024-01-03"):
        plan_budget.plan_day(lake, TOY, "2024-01-03", 10)


def test_a_day_without_users_has_an_empty_plan(lake):
    publish_journeys(lake, DAY, journeys({1: [Shown("left")]}).slice(0, 0))
    score.score_day(Registry(lake, TOY), DAY)
    manifest, _ = plan_budget.plan_day(lake, TOY, DAY, 10)
    assert manifest.rows == 0


def test_the_same_scores_give_the_same_bytes(lake):
    first, _ = plan_budget.plan_day(lake, TOY, DAY, 3_000_000_000)
    shutil.rmtree(lake["budget_plan", "toy", DAY].path)
    second, _ = plan_budget.plan_day(lake, TOY, DAY, 3_000_000_000)
    smaller, _ = plan_budget.plan_day(lake, TOY, DAY, 2_000_000_000)
    assert first == second
    assert first.fingerprint != smaller.fingerprint


@pytest.mark.parametrize("budget", ["nan", "-1", "inf", "two", ""])
def test_an_invalid_budget_is_one_line(lake, budget, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv",
        ["plan", "--dataset", "kuairand", "--lake", str(lake.root), "--day", DAY, f"--budget={budget}"],
    )  # fmt: skip
    with pytest.raises(SystemExit) as end:
        exit_with_one_line(plan_budget.main)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: a budget of")


TASKS = replace(TOY, implied_label=ImpliedLabel("click", "sale"))


def publish_task_predictions(lake: Lake, users: pa.ChunkedArray, click_U: np.ndarray, sale_U: np.ndarray) -> None:
    first, second, product = score_names(TASKS)
    columns = {f"predicted_{first}": click_U, f"predicted_{second}": sale_U, f"predicted_{product}": click_U * sale_U}
    with work_folder() as staged:
        pq.write_table(pa.table({"user_id": users, **columns}), staged / "part-0.parquet")
        lake[TASK_PREDICTIONS, "toy", DAY].publish(staged, inputs={}, code="test")


def test_a_plan_by_the_gains_of_another_method_takes_its_predictions(lake):
    ranks = published(lake, "user_reward_ranks").sort_by("user_id")
    users, click_U, sale_U = (ranks.column(name) for name in ("user_id", "predicted_click", "predicted_sale"))
    click_U, sale_U = click_U.to_numpy(), sale_U.to_numpy()
    plan_budget.plan_day(lake, TASKS, DAY, 10**9, valuation=plan_budget.COMPOSED)
    by_ranks = published(lake, "budget_plan")

    # Equal predictions give an equal plan; other predictions do not.
    options = {"valuation": plan_budget.COMPOSED, "gains_from": TASK_PREDICTIONS}
    publish_task_predictions(lake, users, click_U, sale_U)
    manifest, plan = plan_budget.plan_day(lake, TASKS, DAY, 10**9, **options)
    assert plan is not None
    assert lake[TASK_PREDICTIONS, "toy", DAY].key in manifest.inputs
    assert published(lake, "budget_plan").equals(by_ranks)
    assert plan_budget.plan_day(lake, TASKS, DAY, None, **options) == (manifest, None)
    publish_task_predictions(lake, users, click_U / 2, sale_U)
    plan_budget.plan_day(lake, TASKS, DAY, None, **options)
    assert not published(lake, "budget_plan").equals(by_ranks)

    publish_task_predictions(lake, users.slice(1), click_U[1:], sale_U[1:])
    with pytest.raises(UserError, match="has other users than the policies"):
        plan_budget.plan_day(lake, TASKS, DAY, None, **options)
    with pytest.raises(UserError, match="no prediction of sale"):
        predicted_gains(lake, TOY, DAY, TASK_PREDICTIONS, users)


def test_the_method_of_the_gains_has_a_standing_value(monkeypatch):
    assert plan_budget._table_of_gains(TOY, None) == "user_reward_ranks"
    assert plan_budget._table_of_gains(TOY, "rmtl") == TASK_PREDICTIONS
    monkeypatch.setenv("MTORL_GAINS_OF_TOY", "rmtl")
    assert plan_budget._table_of_gains(TOY, None) == TASK_PREDICTIONS
    with pytest.raises(UserError, match="unknown method 'deep'"):
        plan_budget._table_of_gains(TOY, "deep")


def test_without_a_method_that_recommends_channels_there_is_no_plan(lake, monkeypatch, capsys):
    unpublish(lake["channel_policies", "toy", DAY])
    arguments = ["plan_budget", "--dataset", "toy", "--lake", str(lake.root), "--day", DAY, "--method", "rmtl"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(plan_budget, "dataset_of", lambda _: TOY)
    plan_budget.main()
    assert capsys.readouterr().out == f"no budget plan of {DAY}: rmtl recommends no channel\n"
    monkeypatch.setattr(sys, "argv", [*arguments[:-1], "mtorl"])
    with pytest.raises(UserError, match="no channel_policies for toy"):
        plan_budget.main()

"""Several days with a real registry: test, fine-tuning, promotion or refusal, and rollback."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic
import torch
from lakes import republish
from small_champion import shrink_champions

from benchmarks.inputs import made_up_journeys
from jobs.quality.audit_results import PASS, WARN
from jobs.quality.audits import audit_partition
from lakehouse.lake import FAILED_AUDIT, Lake
from lakehouse.lineage import LINEAGE
from lakehouse.models.decisions import lineage_file
from lakehouse.models.versions import Version
from lakehouse.rows import inputs_of_model
from lakehouse.storage.delta_table import table_version
from lakehouse.storage.scratch import work_folder
from mtorl_model import learn as learn_step
from mtorl_model.champion import gate as gate_module
from mtorl_model.champion.day_learning import learn_day
from mtorl_model.champion.export import export_for_daily_run
from mtorl_model.champion.gate import audit_policy, decide
from mtorl_model.champion.gate_rule import GateConfig, is_not_worse
from mtorl_model.champion.mlflow_store import mlflow_client
from mtorl_model.champion.registry import Registry, load_named
from mtorl_model.data.delayed_feedback import FeedbackConfig
from mtorl_model.data.windows.splits import days_with_windows
from mtorl_model.evaluation import basis
from mtorl_model.evaluation.comparison import Difference, compare, head_losses
from mtorl_model.evaluation.label_predictions import labels_of_each, predict_labels
from mtorl_model.methods.model_folder import save_model
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.rollback import roll_back, still_issued
from mtorl_model.train import train_champion
from mtorl_model.training.config import FineTuneConfig, TrainConfig
from schemas.basis import CONSTANT, BasisDecision
from schemas.dataset import get_dataset
from schemas.days import day_plus
from schemas.errors import Busy, UserError
from schemas.tables import PREQUENTIAL, PROMOTIONS, prequential

KUAIRAND = get_dataset("kuairand")
FIRST, LAST = "2022-04-10", "2022-04-11"  # the days that the first champion was trained on
DAYS = ("2022-04-12", "2022-04-13", "2022-04-14")  # days after its training
CONFIG = FineTuneConfig(learning_rate=3e-4, batch_size=32, max_steps=12, device="cpu")
# The first model is trained on two days only, so that one more day improves it.
CHAMPION_CONFIG = MTORLConfig(
    ModelConfig(hidden=16),
    LossConfig(mu=1.0),
    TrainConfig(batch_size=64, max_epochs=10, learning_rate=5e-3, device="cpu"),
)
# Intervals over thirty validation users are wide.
FEEDBACK, GATE = FeedbackConfig(), GateConfig(worst=5.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of five days whose champion was trained on the first two. Tests copy it."""
    root = tmp_path_factory.mktemp("trained") / "lake"
    lake, _ = synthetic.write_lake(root, "kuairand", FIRST, DAYS[-1], users=330, daily=4)
    train_champion(lake, KUAIRAND, FIRST, LAST, MTORL, CHAMPION_CONFIG)
    return root


@pytest.fixture(scope="module")
def lake_after(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The trained lake in which these steps were done, each `learn` or `gate` and the number of a day.

    Equal first steps are done once. Tests copy the lake.
    """

    @cache
    def root_after(*steps: str) -> Path:
        if not steps:
            return trained
        root = shutil.copytree(root_after(*steps[:-1]), tmp_path_factory.mktemp("after") / "lake")
        kind, number = steps[-1].split()
        if kind == "learn":
            learn(Lake(root), DAYS[int(number)])
        else:
            assert "is the champion" in gate(Lake(root), DAYS[int(number)])
        return root

    return root_after


@pytest.fixture
def lake(request: pytest.FixtureRequest, lake_after: Callable[..., Path], tmp_path: Path) -> Lake:
    """A copy of the trained lake, after the steps of `@done_before` if the test has one."""
    return Lake(shutil.copytree(lake_after(*getattr(request, "param", ())), tmp_path / "lake"))


def done_before(*steps: str) -> pytest.MarkDecorator:
    """The test begins with a lake in which these steps were done."""
    return pytest.mark.parametrize("lake", [steps], indirect=True, ids=[", ".join(steps)])


# A challenger; its promotion, to mtorl_kuairand/2; the next day's promotion; and two challengers of the same parent.
LEARNED = ("learn 0",)
PROMOTED = (*LEARNED, "gate 0")
TWICE_PROMOTED = (*PROMOTED, "learn 1", "gate 1")
BOTH_LEARNED = (*LEARNED, "learn 1")


def learn(lake: Lake, day: str, config: FineTuneConfig = CONFIG) -> list[str]:
    return learn_day(Registry(lake, KUAIRAND), day, config, FEEDBACK)


def gate(lake: Lake, day: str) -> str:
    return decide(Registry(lake, KUAIRAND), day, GATE, FEEDBACK)[-1]


def rows(lake: Lake, table: str, day: str) -> list[dict]:
    return lake[table, "kuairand", day].read().to_pylist()


def versions(lake: Lake, table: str) -> list[int]:
    """The last commits of a table and of its manifests."""
    return [table_version(lake.table(name, "kuairand")) for name in (table, LINEAGE)]


def names(lake: Lake) -> list[str]:
    return [v.name for v in Registry(lake, KUAIRAND).versions()]


def weights(lake: Lake, name: str) -> torch.Tensor:
    model = load_named(lake, KUAIRAND, name)
    return torch.cat([w.flatten() for w in model.networks[0].state_dict().values()])


def register_spoiled(lake: Lake, day: str, spoil) -> Version:
    """Register the champion, with its weights changed by `spoil`, as the challenger of the day."""
    model = Registry(lake, KUAIRAND).load_champion()[1]
    with torch.no_grad():
        spoil(model.networks[0])
    folder = lake.root.parent / f"spoiled-{day}"
    save_model(folder, model)
    champion = Registry(lake, KUAIRAND).champion()
    version = Registry(lake, KUAIRAND).register(
        folder, {}, [], identity=f"spoiled {day}", day=day, parent=champion.name
    )
    Registry(lake, KUAIRAND).set_challenger(version)
    return version


@pytest.mark.slow
def test_the_artificial_champion_of_the_benchmarks_learns_a_day_and_is_compared(tmp_path, monkeypatch):
    shrink_champions(monkeypatch)
    lake, spec = synthetic.write_lake(tmp_path / "lake", "criteo", LAST, DAYS[0], users=100, daily=4)
    criteo = get_dataset("criteo")
    made_up_journeys.publish_champion(lake, criteo, spec, "small", LAST)
    lines = learn_day(Registry(lake, criteo), DAYS[0], CONFIG, FEEDBACK)
    assert lines[-1].startswith("mtorl_criteo/2 is the challenger of 2022-04-12: mtorl_criteo/1 after 1")
    assert decide(Registry(lake, criteo), DAYS[0], GATE, FEEDBACK)[-1].startswith("mtorl_criteo/2 is ")


def test_a_day_is_tested_by_the_champion_from_before_it(lake):
    lines = learn(lake, DAYS[0])
    figures = rows(lake, PREQUENTIAL, DAYS[0])
    assert list(figures[0]) == list(prequential.prequential(KUAIRAND).column_names)
    assert [r["head"] for r in figures] == ["channel", "click", "long_view"]
    assert {(r["model_version"], r["trained_through"]) for r in figures} == {("mtorl_kuairand/1", LAST)}
    # Compute the same figures from the published windows and the champion.
    model = Registry(lake, KUAIRAND).load_champion()[1]
    train = [synthetic.padded_windows(lake, KUAIRAND, model.spec, [DAYS[0]], "train")]
    labels = predict_labels(model, train, KUAIRAND)
    losses = head_losses(labels, model)
    for row in figures:
        assert row["labels"] == len(labels.gain_NG)
        assert row["logloss"] == pytest.approx(losses[row["head"]][0].mean())
        assert row["logloss_low"] < row["logloss"] < row["logloss_high"]
    click = figures[1]
    assert click["rate"] == pytest.approx(labels.gain_NG[:, 0].mean())
    assert click["predicted_rate"] == pytest.approx(labels.prediction.gains_XG[:, 0].mean())
    assert click["known_share"] == 1.0
    assert lines[0] == f"mtorl_kuairand/1, trained through {LAST}, on {DAYS[0]}:"
    manifest = lake[PREQUENTIAL, "kuairand", DAYS[0]].manifest
    assert inputs_of_model(manifest, "mtorl_kuairand")["model"] == "mtorl_kuairand/1"


@done_before(*LEARNED)
def test_the_lineage_of_a_version_lists_the_sequences_it_was_trained_on(lake):
    lineages = {}
    for name in names(lake):
        lineages[name] = json.loads(lineage_file(lake, "kuairand", name).read_text())
        assert lineages[name]["version"] == name

    def read_from(*days: str) -> dict[str, str]:
        tables = (lake.fingerprints(table, "kuairand", days) for table in ("sequences", "steps", "exposures"))
        return {key: fingerprint for fingerprints in tables for key, fingerprint in fingerprints.items()}

    assert lineages["mtorl_kuairand/1"]["inputs"] == read_from(FIRST, LAST)
    assert lineages["mtorl_kuairand/2"]["inputs"] == {
        "parent": "mtorl_kuairand/1",
        **read_from(FIRST, LAST, DAYS[0]),
    }
    assert lineages["mtorl_kuairand/2"]["spec_version"] == Registry(lake, KUAIRAND).load_champion()[1].spec.version


def test_the_lineage_of_a_training_lists_the_exposures_whose_propensities_it_read(lake, monkeypatch):
    synthetic.publish_propensities(lake, KUAIRAND, LAST, lambda _: 0.5)
    written = []
    monkeypatch.setattr(Registry, "write_lineage", lambda _, version, spec, trained_on: written.append(trained_on))
    train_champion(lake, KUAIRAND, FIRST, LAST, MTORL, CHAMPION_CONFIG)
    (trained_on,) = written
    exposures = lake["exposures", "kuairand", LAST]
    assert trained_on[exposures.key] == exposures.require().fingerprint
    assert len(trained_on) == 6  # sequences, steps and exposures of two days


@done_before(*PROMOTED)
def test_the_tables_of_a_day_pass_their_audits(lake):
    for table in (PREQUENTIAL, PROMOTIONS):
        assert rows(lake, table, DAYS[0])
        audit = audit_partition(lake, table, KUAIRAND, DAYS[0])
        assert audit.verdict in (PASS, WARN), [outcome.name for outcome in audit.failed]


@done_before(*LEARNED)
def test_a_second_run_of_a_day_trains_nothing(lake, monkeypatch):
    assert names(lake) == ["mtorl_kuairand/1", "mtorl_kuairand/2"]
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[0]).name == "mtorl_kuairand/2"
    assert Registry(lake, KUAIRAND).champion().name == "mtorl_kuairand/1"
    assert not torch.equal(weights(lake, "mtorl_kuairand/1"), weights(lake, "mtorl_kuairand/2"))
    tested = lake[PREQUENTIAL, "kuairand", DAYS[0]].manifest
    assert "is the champion" in gate(lake, DAYS[0])
    monkeypatch.setattr(MTORL, "fine_tune", None)  # any further training fails
    learn(lake, DAYS[0])
    assert names(lake) == ["mtorl_kuairand/1", "mtorl_kuairand/2"]
    assert lake[PREQUENTIAL, "kuairand", DAYS[0]].manifest == tested
    assert gate(lake, DAYS[0]).startswith("mtorl_kuairand/2, challenger of 2022-04-12, was promoted")


def test_the_same_day_gives_the_same_weights_in_two_lakes(lake, lake_after):
    learn(lake, DAYS[0])
    assert torch.equal(weights(lake, "mtorl_kuairand/2"), weights(Lake(lake_after(*LEARNED)), "mtorl_kuairand/2"))


def test_learn_tests_trains_and_decides_and_a_second_run_changes_nothing(lake, monkeypatch, capsys):
    flags = ("--dataset", "kuairand", "--lake", str(lake.root), "--day", DAYS[0], "--device", "cpu")
    monkeypatch.setattr(sys, "argv", ["learn", *flags])
    learn_step.main()
    printed = capsys.readouterr().out
    assert f"mtorl_kuairand/2 is the challenger of {DAYS[0]}" in printed
    decided = {row["decision"] for row in rows(lake, "promotions", DAYS[0])}
    assert len(decided) == 1
    registered = names(lake)
    learn_step.main()
    assert f"challenger of {DAYS[0]}, was {decided.pop()}" in capsys.readouterr().out
    assert names(lake) == registered


@pytest.mark.parametrize("function", ["fine_tune", "register", "set_challenger"])
def test_a_run_that_is_killed_and_repeated_registers_once(lake, monkeypatch, function):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MTORL if function == "fine_tune" else Registry, function, killed)
        with pytest.raises(KeyboardInterrupt):
            learn(lake, DAYS[0])
    learn(lake, DAYS[0])
    assert names(lake) == ["mtorl_kuairand/1", "mtorl_kuairand/2"]
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[0]).name == "mtorl_kuairand/2"


@done_before(*LEARNED)
@pytest.mark.parametrize("function", ["publish_model_rows", "decide", "show_decisions"])
def test_a_gate_that_is_killed_and_repeated_decides_the_same(lake, monkeypatch, function):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    registry = Registry(lake, KUAIRAND)
    with monkeypatch.context() as patch:
        if function == "show_decisions":  # called once before the decision
            calls = iter([Registry.show_decisions, killed])
            patch.setattr(Registry, function, lambda *args: next(calls)(*args))
        else:
            patch.setattr(gate_module if function == "publish_model_rows" else Registry, function, killed)
        with pytest.raises(KeyboardInterrupt):
            gate(lake, DAYS[0])
    assert "is the champion" in gate(lake, DAYS[0])
    assert registry.champion().name == "mtorl_kuairand/2"
    assert registry.named_version("mtorl_kuairand/2").decision == "promoted"
    assert shown_champion(lake) == 2
    assert {r["decision"] for r in rows(lake, PROMOTIONS, DAYS[0])} == {"promoted"}


def test_a_backfilled_day_does_not_make_an_older_model_champion(lake):
    learn(lake, DAYS[1])
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[1])
    lines = learn(lake, DAYS[0])
    assert lines[-1] == f"mtorl_kuairand/2 has been trained through {DAYS[1]}: not trained on an older day"
    # The day is tested nevertheless, by the champion from before it.
    assert {r["model_version"] for r in rows(lake, PREQUENTIAL, DAYS[0])} == {"mtorl_kuairand/1"}
    assert gate(lake, DAYS[0]).startswith(f"no challenger of {DAYS[0]}: mtorl_kuairand/2")
    assert rows(lake, PROMOTIONS, DAYS[0]) == []
    assert learn(lake, LAST)[-1].endswith("neither tested nor trained")
    assert rows(lake, PREQUENTIAL, LAST) == []
    assert names(lake) == ["mtorl_kuairand/1", "mtorl_kuairand/2"]


@done_before(*BOTH_LEARNED)
def test_a_challenger_of_a_day_before_the_champions_last_day_is_refused(lake):
    assert "mtorl_kuairand/3 is the champion" in gate(lake, DAYS[1])
    assert "which is later" in gate(lake, DAYS[0])
    assert Registry(lake, KUAIRAND).champion().name == "mtorl_kuairand/3"


@pytest.mark.parametrize(
    ("head", "spoil"),
    [
        ("click", lambda m: list(m.reward.parameters())[-1].__setitem__(0, list(m.reward.parameters())[-1][0] + 1.5)),
        ("channel", lambda m: m.action.weight.mul_(0.2)),
    ],
)
def test_a_challenger_that_is_worse_in_one_head_is_refused_and_reported(lake, head, spoil):
    champion = Registry(lake, KUAIRAND).champion()
    spoiled = register_spoiled(lake, DAYS[0], spoil)
    line = gate(lake, DAYS[0])
    assert line.startswith(f"{spoiled.name} is refused ({head} is worse by +")
    assert Registry(lake, KUAIRAND).champion() == champion
    refused = Registry(lake, KUAIRAND).challenger_of(DAYS[0])
    assert refused.name == spoiled.name
    assert refused.decision.startswith(f"refused: {head} is worse by +")
    report = {r["check"]: r for r in rows(lake, PROMOTIONS, DAYS[0])}
    assert list(report) == ["channel", "click", "long_view", "policy_audit"]
    # A flattened policy may also fail its audit; the other heads have not changed.
    assert {name for name, r in report.items() if not r["passed"]} - {"policy_audit"} == {head}
    assert {r["decision"] for r in report.values()} == {"refused"}
    assert report[head]["high"] > report[head]["difference"] > report[head]["low"] > report[head]["margin"] > 0
    assert Registry(lake, KUAIRAND).load(refused)  # the refused model remains available
    # The next day is trained from the champion, not from the refused challenger.
    learn(lake, DAYS[1])
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[1]).parent == champion.name


def test_the_basis_of_a_staying_champion_is_decided_again_on_the_predictions_of_the_comparison(lake, monkeypatch):
    synthetic.publish_propensities(lake, KUAIRAND, DAYS[0], lambda _: 1 / 3)
    figures = {"value": 0.01, "low": -0.02, "high": 0.04}
    decision, decided_on = BasisDecision(CONSTANT, "by the test", {CONSTANT: figures}), []

    def decide_basis(model, drawn_labels):
        decided_on.append((model, drawn_labels))
        return decision

    monkeypatch.setattr(basis, "decide_basis", decide_basis)
    monkeypatch.setattr(basis, "labels_of_each", None)  # nothing is predicted a second time
    champion = Registry(lake, KUAIRAND).champion()
    spoiled = register_spoiled(lake, DAYS[0], lambda m: m.action.weight.mul_(0.2))
    gate(lake, DAYS[0])
    ((model, labels),) = decided_on
    assert Registry(lake, KUAIRAND).champion() == replace(champion, basis=decision)
    assert Registry(lake, KUAIRAND).basis_of(spoiled.name) != decision
    expected = Registry(lake, KUAIRAND).load(champion)
    assert torch.equal(model.networks[0].action.weight, expected.networks[0].action.weight)
    assert len(labels.labels.action_N) == len(labels.prediction.policy_XA) > 0
    assert labels.labels.feature_NF.shape[1] > 0  # for the outcome model
    (row,) = (r for r in rows(lake, PROMOTIONS, DAYS[0]) if r["check"] == "constant_basis")
    assert [row[name] for name in ("value_difference", "value_low", "value_high")] == list(figures.values())
    assert {row[name] for name in ("difference", "low", "high", "champion_logloss", "margin")} == {None}


@done_before(*LEARNED)
def test_a_late_first_gain_is_valued_on_days_whose_gains_are_known(lake, monkeypatch):
    """The labels of the latest days are not: on them, the value would never be identified."""
    calls = []

    def on_validation_users(lake, dataset, model, days, cutoff):
        calls.append(list(days))
        return BasisDecision(CONSTANT, "by the test")

    monkeypatch.setattr(basis, "basis_on_validation_users", on_validation_users)
    monkeypatch.setattr(gate_module, "_is_late", lambda _: True)
    late = replace(KUAIRAND, outcome_days=2)
    decide(Registry(lake, late), DAYS[0], GATE, FEEDBACK)
    ((*days,),) = calls
    assert days
    assert max(days) <= day_plus(DAYS[0], -2)


def test_a_policy_that_collapses_or_changes_too_much_fails_its_audit():
    policy = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7], [0.5, 0.4, 0.1]])
    assert audit_policy(policy, policy, 0.2) == []
    collapsed = np.array([[0.5, 0.3, 0.2]] * 4)
    assert audit_policy(collapsed, policy, 1.0) == ["one channel for nearly everyone is a collapsed policy"]
    policy_200 = np.tile(policy, (50, 1))
    nearly_collapsed = np.tile(collapsed, (50, 1))
    nearly_collapsed[0] = nearly_collapsed[0, ::-1]
    assert audit_policy(nearly_collapsed, policy_200, 1.0) == ["one channel for nearly everyone is a collapsed policy"]
    nearly_collapsed[:4] = nearly_collapsed[:4, ::-1]
    assert audit_policy(nearly_collapsed, policy_200, 1.0) == []
    assert audit_policy(collapsed, collapsed, 0.2) == []  # the champion's policy is collapsed, too
    assert audit_policy(policy[[0, 1, 1, 3]], policy, 0.12) == [
        "12% of the probability moves to other channels, at most 12% is allowed in a day"
    ]
    assert audit_policy(policy[[0, 1, 1, 3]], policy, 0.13) == []
    assert audit_policy(policy * 1.1, policy, 0.2) == ["probabilities do not sum to 1"]
    assert audit_policy(np.where(policy == 0.7, np.nan, policy), policy, 0.2) == [
        "a probability is not a number from 0 to 1"
    ]


def test_the_difference_may_reach_one_margin_and_its_upper_end_three():
    def difference(value: float, high: float | None) -> Difference:
        return Difference("click", 50, 500, 0.5, 0.5 + value, value, None if high is None else 2 * value - high, high)

    for value, high, passes in (
        (0.0049, 0.0149, True), (0.0051, 0.0052, False), (0.0001, 0.0151, False), (-0.01, 0.0, True),
        (0.0, 0.0151, True),
        (0.0049, None, True), (0.0051, None, False),
    ):  # fmt: skip
        assert is_not_worse(difference(value, high), GateConfig(margin=0.01, worst=3.0)) == passes, (value, high)


@done_before(*TWICE_PROMOTED)
def test_a_version_that_was_rolled_back_is_not_promoted_again(lake):
    assert Registry(lake, KUAIRAND).champion().name == "mtorl_kuairand/3"
    with pytest.raises(UserError, match="mtorl_kuairand/9 has never been champion of kuairand: choose one of"):
        roll_back(Registry(lake, KUAIRAND), "mtorl_kuairand/9")
    assert roll_back(Registry(lake, KUAIRAND), None).startswith(
        f"mtorl_kuairand/2, trained through {DAYS[0]}, is the champion"
    )
    assert Registry(lake, KUAIRAND).load_champion()[0] == "mtorl_kuairand/2"  # the model of the nightly scoring
    # Another run of the day has the same challenger, which only a person can make champion again.
    learn(lake, DAYS[1])
    gate(lake, DAYS[1])
    assert Registry(lake, KUAIRAND).champion().name == "mtorl_kuairand/2"
    learn(lake, DAYS[2])
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[2]).parent == "mtorl_kuairand/2"
    assert "withdrawn: mtorl_kuairand/2" in roll_back(Registry(lake, KUAIRAND), "mtorl_kuairand/1")
    with pytest.raises(UserError, match="mtorl_kuairand/1 is the first champion of kuairand"):
        roll_back(Registry(lake, KUAIRAND), None)
    # No later day is trained from a withdrawn version, and a rollback without a name does not return to it.
    learn(lake, DAYS[2])
    lenient = replace(GATE, margin=0.1, worst=20.0)  # whether it is better does not matter here
    assert "is the champion" in decide(Registry(lake, KUAIRAND), DAYS[2], lenient, FEEDBACK)[-1]
    assert Registry(lake, KUAIRAND).champion_before(DAYS[1]).name == "mtorl_kuairand/1"
    assert roll_back(Registry(lake, KUAIRAND), None).startswith("mtorl_kuairand/1")
    assert roll_back(Registry(lake, KUAIRAND), "mtorl_kuairand/3").startswith("mtorl_kuairand/3")
    brought_back = Registry(lake, KUAIRAND).named_version("mtorl_kuairand/3")
    assert Registry(lake, KUAIRAND).champion() == replace(brought_back, withdrawn=False)


def test_a_rollback_names_the_model_of_the_newest_policies(tmp_path, monkeypatch):
    monkeypatch.setattr(Registry, "champion", lambda _: Version("mtorl_kuairand/2", 2, "run", DAYS[0], ""))
    lake = Lake(tmp_path / "lake")
    assert still_issued(Registry(lake, KUAIRAND)) is None  # no day has been scored
    for day, model in zip(DAYS, ("mtorl_kuairand/1", "mtorl_kuairand/2", "mtorl_kuairand/3"), strict=True):
        for table in ("journeys", "channel_policies"):
            with work_folder() as staged:
                pq.write_table(pa.table({"user_id": [1]}), staged / "part-0.parquet")
                lake[table, "kuairand", day].publish(staged, inputs={"model": model}, code="c")
        line = still_issued(Registry(lake, KUAIRAND))  # about the newest day only
        assert line == {DAYS[1]: None}.get(
            day,
            f"the table channel_policies of {day} was made by {model}; to score that day again, run: "
            f"make backfill DATASET=kuairand FROM={day} TO={day}",
        )


@done_before(*PROMOTED)
def test_a_gate_that_runs_after_a_rollback_does_not_undo_it(lake):
    learn(lake, DAYS[1])
    roll_back(Registry(lake, KUAIRAND), None)
    line = gate(lake, DAYS[1])
    assert line.startswith("mtorl_kuairand/3 is refused (trained from mtorl_kuairand/2, which is no longer")
    assert "run the day again" in line
    assert Registry(lake, KUAIRAND).champion().name == "mtorl_kuairand/1"
    learn(lake, DAYS[1])  # from the present champion, as the line advises
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[1]).parent == "mtorl_kuairand/1"
    assert "mtorl_kuairand/4 is the champion" in gate(lake, DAYS[1])


@done_before(*BOTH_LEARNED)
def test_of_days_learned_in_parallel_only_the_first_is_promoted(lake):
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[0])
    assert "mtorl_kuairand/3 is refused (trained from mtorl_kuairand/1" in gate(lake, DAYS[1])
    assert Registry(lake, KUAIRAND).champion().name == "mtorl_kuairand/2"


def shown_champion(lake: Lake) -> int:
    """The version that MLflow's alias names."""
    with mlflow_client(lake) as client:
        return int(client.get_model_version_by_alias("mtorl_kuairand", "champion").version)


@done_before(*TWICE_PROMOTED)
def test_a_rollback_while_the_gate_decides_is_not_overwritten(lake, monkeypatch):
    learn(lake, DAYS[2])
    registry, publish = Registry(lake, KUAIRAND), gate_module.publish_model_rows

    def overtaken(*args):
        publish(*args)
        roll_back(registry, None)

    with monkeypatch.context() as patch:
        patch.setattr(gate_module, "publish_model_rows", overtaken)
        with pytest.raises(Busy, match="another decision about mtorl_kuairand has come first"):
            gate(lake, DAYS[2])
    assert registry.champion().name == "mtorl_kuairand/2"
    assert (shown_champion(lake), registry.named_version("mtorl_kuairand/4").reign) == (2, 0)
    assert "is refused (trained from mtorl_kuairand/3, which is no longer the champion" in gate(lake, DAYS[2])


def test_a_champion_that_changes_during_the_training_raises_busy(lake, monkeypatch):
    def overtaken(*args):
        losses = fine_tune(*args)
        spoiled = register_spoiled(lake, FIRST, lambda model: None)
        Registry(lake, KUAIRAND).make_champion(spoiled)
        return losses

    fine_tune = MTORL.fine_tune
    monkeypatch.setattr(MTORL, "fine_tune", overtaken)
    with pytest.raises(Busy, match="mtorl_kuairand/1 is no longer the champion before 2022-04-12"):
        learn(lake, DAYS[0])
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[0]) is None
    assert names(lake) == ["mtorl_kuairand/1", "mtorl_kuairand/2"]


@done_before(*BOTH_LEARNED)
def test_a_refusal_is_valid_only_for_the_same_champion(lake):
    assert "mtorl_kuairand/3 is the champion" in gate(lake, DAYS[1])
    assert "which is later" in gate(lake, DAYS[0])
    assert "was refused" in gate(lake, DAYS[0])
    roll_back(Registry(lake, KUAIRAND), None)
    learn(lake, DAYS[0])
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[0]).name == "mtorl_kuairand/2"
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[0])


@done_before(*TWICE_PROMOTED)
def test_a_repeated_training_can_be_rolled_back(lake):
    line = train_champion(lake, KUAIRAND, FIRST, LAST, MTORL, CHAMPION_CONFIG)[0]
    assert line.startswith("mtorl_kuairand/1 is the champion of kuairand: the same training is registered already; ")
    assert "it replaces mtorl_kuairand/3" in line
    champion = Registry(lake, KUAIRAND).champion()
    train_champion(lake, KUAIRAND, FIRST, LAST, MTORL, CHAMPION_CONFIG)
    assert Registry(lake, KUAIRAND).champion() == champion
    assert roll_back(Registry(lake, KUAIRAND), None).startswith(
        f"mtorl_kuairand/3, trained through {DAYS[1]}, is the champion"
    )
    assert roll_back(Registry(lake, KUAIRAND), None).startswith("mtorl_kuairand/2")


@done_before(*PROMOTED)
def test_promoted_days_are_promoted_again_after_a_repeated_training(lake):
    train_champion(lake, KUAIRAND, FIRST, LAST, MTORL, CHAMPION_CONFIG)
    learn(lake, DAYS[0])
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[0])
    assert roll_back(Registry(lake, KUAIRAND), None).startswith("mtorl_kuairand/1")


@done_before(*PROMOTED)
def test_every_change_of_the_champion_exports_its_spec(lake, lake_after):
    exported = lake.table("champion", "kuairand")
    by_the_training = Lake(lake_after()).table("champion", "kuairand") / "version.txt"
    assert by_the_training.read_text() == "mtorl_kuairand/1\n"
    assert (exported / "version.txt").read_text() == "mtorl_kuairand/2\n"
    roll_back(Registry(lake, KUAIRAND), None)
    assert (exported / "version.txt").read_text() == "mtorl_kuairand/1\n"
    (exported / "version.txt").unlink()
    roll_back(Registry(lake, KUAIRAND), "mtorl_kuairand/2")
    assert (exported / "version.txt").read_text() == "mtorl_kuairand/2\n"


def test_an_export_that_is_killed_leaves_the_old_spec(lake, monkeypatch):
    def killed(path, content):
        with path.open("wb") as file:
            file.write(content[:10])
        raise KeyboardInterrupt

    spec = lake.table("champion", "kuairand") / "feature_spec.json"
    spec.write_text("an older spec")
    old_content = spec.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        export_for_daily_run(Registry(lake, KUAIRAND))
    assert spec.read_bytes() == old_content
    assert {path.name for path in spec.parent.iterdir()} == {"feature_spec.json", "version.txt"}


@done_before(*LEARNED)
def test_a_broken_earlier_day_does_not_stop_the_gate(lake, capsys):
    manifest = lake["sequences", "kuairand", FIRST].manifest
    verdict = lake.audits("kuairand") / "sequences" / f"{FIRST}.json"
    verdict.parent.mkdir(parents=True)
    verdict.write_text(json.dumps({"verdict": FAILED_AUDIT, "fingerprint": manifest.fingerprint}))
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[0])
    assert f"left out: sequences for kuairand on {FIRST} failed its audit" in capsys.readouterr().out


def test_a_day_that_is_replaced_while_it_is_read_gives_neither_figures_nor_a_decision(lake, monkeypatch):
    def replaced(reader):
        def read(*args, **kwargs):
            republish(lake["sequences", "kuairand", DAYS[0]])
            return reader(*args, **kwargs)

        return read

    with monkeypatch.context() as patch:
        patch.setattr("mtorl_model.evaluation.label_sources.labels_of_each", replaced(labels_of_each))
        with pytest.raises(Busy, match="was published again while it was read"):
            learn(lake, DAYS[0])
    assert lake[PREQUENTIAL, "kuairand", DAYS[0]].manifest is None
    learn(lake, DAYS[0])
    with monkeypatch.context() as patch:
        patch.setattr("mtorl_model.evaluation.label_sources.labels_of_each", replaced(labels_of_each))
        with pytest.raises(Busy, match="was published again while it was read"):
            gate(lake, DAYS[0])
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[0])


@done_before(*LEARNED)
def test_figures_stay_if_nothing_has_changed_or_no_model_can_test_the_day_any_more(lake, monkeypatch):
    tested = versions(lake, PREQUENTIAL)
    with monkeypatch.context() as patch:
        patch.setattr("mtorl_model.champion.prequential.measure_day", None)  # any further measurement fails
        assert "fresh: not tested again" in learn(lake, DAYS[0])[0]
    # After a full training on all days with another spec, no earlier champion can read the day's windows.
    monkeypatch.setattr(Registry, "champion_before", lambda *args: None)
    assert learn(lake, DAYS[0])[-1].endswith("neither tested nor trained")
    assert versions(lake, PREQUENTIAL) == tested


def test_without_a_champion_the_error_is_one_line_with_advice(tmp_path):
    empty, _ = synthetic.write_lake(tmp_path / "lake", users=10)
    for command in (learn, gate, lambda lake, day: roll_back(Registry(lake, KUAIRAND), None)):
        with pytest.raises(UserError, match="no champion model for kuairand"):
            command(empty, FIRST)


def test_days_of_fine_tuning_improve_later_days_and_do_not_forget_earlier_ones(lake):
    frozen = Registry(lake, KUAIRAND).champion()
    for day in DAYS:
        learn(lake, day, replace(CONFIG, learning_rate=1e-3, max_steps=40, passes=8))
        lenient = replace(GATE, margin=0.03, worst=20.0)  # losses and intervals of 30 validation users vary
        assert "is the champion" in decide(Registry(lake, KUAIRAND), day, lenient, FEEDBACK)[-1]
    models = [Registry(lake, KUAIRAND).load(v) for v in (frozen, Registry(lake, KUAIRAND).champion())]
    later, earlier = (
        {d.head: d for d in compare(lake, KUAIRAND, *models, days_with_windows(lake, KUAIRAND, *span),
                                    "validation").heads}
        for span in ((DAYS[0], DAYS[-1]), (FIRST, LAST))
    )  # fmt: skip
    for head in ("channel", "click", "long_view"):
        assert later[head].candidate_loss < 0.98 * later[head].base_loss, head
        assert earlier[head].candidate_loss < 1.02 * earlier[head].base_loss, head
    # Every day was tested by the champion of the previous day.
    tested_by = [{r["model_version"] for r in rows(lake, PREQUENTIAL, day)} for day in DAYS]
    assert tested_by == [{f"mtorl_kuairand/{k}"} for k in (1, 2, 3)]

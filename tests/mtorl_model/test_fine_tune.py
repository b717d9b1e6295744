"""Days on end with a real registry: tested before trained, trained once, promoted or refused, rolled back."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic
import torch

from benchmarks.inputs.made_up_journeys import publish_champion
from jobs.quality.audit_results import PASS, WARN
from jobs.quality.audits import audit_partition
from lakehouse.files import swap_into_place
from lakehouse.lake import FAILED_AUDIT, Lake
from lakehouse.manifest import MANIFEST, read_manifest
from lakehouse.reading import read_tables
from lakehouse.staging import staging_folder
from mtorl_model import learn as learn_step
from mtorl_model.champion import gate as gate_module
from mtorl_model.champion.day_learning import learn_day
from mtorl_model.champion.export import export_for_daily_run
from mtorl_model.champion.gate import GateConfig, audit_policy, decide, is_not_worse
from mtorl_model.champion.registry import Registry, Version, load_named
from mtorl_model.data.delayed_feedback import FeedbackConfig
from mtorl_model.data.split_windows import days_cut_with
from mtorl_model.evaluation.comparison import Difference, compare, head_losses
from mtorl_model.evaluation.label_predictions import labels_of_each, predict_labels
from mtorl_model.methods.model_folder import save_model
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.rollback import roll_back, still_issued
from mtorl_model.train import train_champion
from mtorl_model.training.config import FineTuneConfig, TrainConfig
from schemas.dataset import get_dataset
from schemas.errors import Busy, UserError
from schemas.tables import PREQUENTIAL, PROMOTIONS, prequential

pytestmark = pytest.mark.slow  # each test trains on a day and registers models in MLflow

KUAIRAND = get_dataset("kuairand")
FIRST, LAST = "2022-04-10", "2022-04-11"  # of the first champion
DAYS = ("2022-04-12", "2022-04-13", "2022-04-14")  # that it has not seen
CONFIG = FineTuneConfig(learning_rate=3e-4, batch_size=32, max_steps=12, device="cpu")
# The first model has seen two days only, so that a day more makes it better.
CHAMPION_CONFIG = MTORLConfig(
    ModelConfig(hidden=16),
    LossConfig(mu=1.0),
    TrainConfig(batch_size=64, max_epochs=10, learning_rate=5e-3, device="cpu"),
)
FEEDBACK, GATE = FeedbackConfig(), GateConfig()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of five days whose champion has seen the first two; to be copied, not changed."""
    root = tmp_path_factory.mktemp("trained") / "lake"
    lake, _ = synthetic.write_lake(root, "kuairand", FIRST, DAYS[-1], users=330, daily=4)
    train_champion(lake, KUAIRAND, FIRST, LAST, MTORL, CHAMPION_CONFIG)
    return root


@pytest.fixture
def lake(trained: Path, tmp_path: Path) -> Iterator[Lake]:
    shutil.copytree(trained, tmp_path / "lake")
    yield Lake(tmp_path / "lake")
    assert not list((tmp_path / "lake" / ".staging").glob("*"))


def learn(lake: Lake, day: str, config: FineTuneConfig = CONFIG) -> list[str]:
    return learn_day(Registry(lake, KUAIRAND), day, config, FEEDBACK)


def gate(lake: Lake, day: str) -> str:
    return decide(Registry(lake, KUAIRAND), day, GATE, FEEDBACK)[-1]


def rows(lake: Lake, table: str, day: str) -> list[dict]:
    return pq.read_table(lake[table, "kuairand", day].path, partitioning=None).to_pylist()


def names(lake: Lake) -> list[str]:
    return [v.name for v in Registry(lake, KUAIRAND).versions()]


def weights(lake: Lake, name: str) -> torch.Tensor:
    model = load_named(lake, KUAIRAND, name)
    return torch.cat([w.flatten() for w in model.networks[0].state_dict().values()])


def register_spoiled(lake: Lake, day: str, spoil) -> Version:
    """A challenger that is the champion with its weights changed by `spoil`."""
    model = Registry(lake, KUAIRAND).load_champion()[1]
    with torch.no_grad():
        spoil(model.networks[0])
    folder = lake.root.parent / f"spoiled-{day}"
    save_model(folder, model)
    now = Registry(lake, KUAIRAND).champion()
    version = Registry(lake, KUAIRAND).register(folder, {}, [], identity=f"spoiled {day}", day=day, parent=now.name)
    Registry(lake, KUAIRAND).set_challenger(version)
    return version


def test_the_benchmarks_made_up_champion_learns_a_day_and_is_compared(tmp_path):
    lake, spec = synthetic.write_lake(tmp_path / "lake", "criteo", LAST, DAYS[0], users=100, daily=4)
    criteo = get_dataset("criteo")
    publish_champion(lake, criteo, spec, "small", LAST)
    lines = learn_day(Registry(lake, criteo), DAYS[0], CONFIG, FEEDBACK)
    assert lines[-1].startswith("mtorl_criteo/2 is the challenger of 2022-04-12: mtorl_criteo/1 after 1")
    assert decide(Registry(lake, criteo), DAYS[0], GATE, FEEDBACK)[-1].startswith("mtorl_criteo/2 is ")


def test_a_day_is_tested_by_the_champion_that_has_not_seen_it(lake):
    lines = learn(lake, DAYS[0])
    found = rows(lake, PREQUENTIAL, DAYS[0])
    assert list(found[0]) == list(prequential.prequential(KUAIRAND).column_names)
    assert [r["head"] for r in found] == ["channel", "click", "long_view"]
    assert {(r["model_version"], r["trained_through"]) for r in found} == {("mtorl_kuairand/1", LAST)}
    # The same figures, from the published windows and the champion alone.
    partition = lake["sequences", "kuairand", DAYS[0]].path
    windows = list(read_tables([partition], pq.read_schema(next(partition.glob("*.parquet"))).names))
    train = [t.filter([s == "train" for s in t.column("split").to_pylist()]) for t in windows]
    model = Registry(lake, KUAIRAND).load_champion()[1]
    labels = predict_labels(model, train, KUAIRAND)
    losses = head_losses(labels, model)
    for row in found:
        assert row["labels"] == len(labels.gain_NG)
        assert row["logloss"] == pytest.approx(losses[row["head"]][0].mean())
        assert row["logloss_low"] < row["logloss"] < row["logloss_high"]
    click = found[1]
    assert click["rate"] == pytest.approx(labels.gain_NG[:, 0].mean())
    assert click["predicted_rate"] == pytest.approx(labels.prediction.gains_XG[:, 0].mean())
    assert click["known_share"] == 1.0
    assert lines[0] == f"mtorl_kuairand/1, trained through {LAST}, on {DAYS[0]}:"
    assert lake[PREQUENTIAL, "kuairand", DAYS[0]].manifest.inputs["model"] == "mtorl_kuairand/1"


def test_a_version_says_which_sequences_it_was_trained_on(lake):
    learn(lake, DAYS[0])
    told = {}
    for file in lake.mlflow_artifacts.glob("kuairand/*/artifacts/model/lineage.json"):
        lineage = json.loads(file.read_text())
        told[lineage["version"]] = lineage

    def sequences_of(*days: str) -> dict[str, str]:
        partitions = [lake["sequences", "kuairand", day].path for day in days]
        return {str(p.relative_to(lake.root)): read_manifest(p).fingerprint for p in partitions}

    assert told["mtorl_kuairand/1"]["inputs"] == sequences_of(FIRST, LAST)
    assert told["mtorl_kuairand/2"]["inputs"] == {"parent": "mtorl_kuairand/1", **sequences_of(FIRST, LAST, DAYS[0])}
    assert told["mtorl_kuairand/2"]["spec_version"] == Registry(lake, KUAIRAND).load_champion()[1].spec.version


def test_what_a_day_publishes_passes_its_audit(lake):
    learn(lake, DAYS[0])
    gate(lake, DAYS[0])
    for table in (PREQUENTIAL, PROMOTIONS):
        assert rows(lake, table, DAYS[0])
        audit = audit_partition(lake, table, KUAIRAND, DAYS[0])
        assert audit.verdict in (PASS, WARN), [outcome.name for outcome in audit.failed]


def test_a_day_run_again_trains_nothing_on_top_of_itself(lake, monkeypatch):
    learn(lake, DAYS[0])
    assert names(lake) == ["mtorl_kuairand/1", "mtorl_kuairand/2"]
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[0]).name == "mtorl_kuairand/2"
    assert Registry(lake, KUAIRAND).champion().name == "mtorl_kuairand/1"
    assert not torch.equal(weights(lake, "mtorl_kuairand/1"), weights(lake, "mtorl_kuairand/2"))
    tested = lake[PREQUENTIAL, "kuairand", DAYS[0]].manifest
    assert "is the champion" in gate(lake, DAYS[0])
    monkeypatch.setattr(MTORL, "fine_tune", None)  # whoever trains now, fails
    learn(lake, DAYS[0])
    assert names(lake) == ["mtorl_kuairand/1", "mtorl_kuairand/2"]
    assert lake[PREQUENTIAL, "kuairand", DAYS[0]].manifest == tested
    assert gate(lake, DAYS[0]).startswith("mtorl_kuairand/2, challenger of 2022-04-12, was promoted")


def test_the_same_day_twice_from_scratch_gives_the_same_weights(lake, tmp_path):
    shutil.copytree(lake.root, tmp_path / "other")
    other = Lake(tmp_path / "other")
    for one in (lake, other):
        learn(one, DAYS[0])
    assert torch.equal(weights(lake, "mtorl_kuairand/2"), weights(other, "mtorl_kuairand/2"))


def test_the_daily_runs_step_tests_trains_and_decides_and_nothing_more_when_run_again(lake, monkeypatch, capsys):
    flags = ("--dataset", "kuairand", "--lake", str(lake.root), "--day", DAYS[0], "--device", "cpu")
    monkeypatch.setattr(sys, "argv", ["learn", *flags])
    learn_step.main()
    said = capsys.readouterr().out
    assert f"mtorl_kuairand/2 is the challenger of {DAYS[0]}" in said
    decided = {row["decision"] for row in rows(lake, "promotions", DAYS[0])}
    assert len(decided) == 1
    registered = names(lake)
    learn_step.main()
    assert f"challenger of {DAYS[0]}, was {decided.pop()}" in capsys.readouterr().out
    assert names(lake) == registered


@pytest.mark.parametrize("at", ["fine_tune", "register", "set_challenger"])
def test_killed_and_run_again_registers_once(lake, monkeypatch, at):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MTORL if at == "fine_tune" else Registry, at, killed)
        with pytest.raises(KeyboardInterrupt):
            learn(lake, DAYS[0])
    learn(lake, DAYS[0])
    assert names(lake) == ["mtorl_kuairand/1", "mtorl_kuairand/2"]
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[0]).name == "mtorl_kuairand/2"


@pytest.mark.parametrize("at", ["publish_rows", "make_champion", "set_decision"])
def test_a_gate_killed_and_run_again_decides_the_same(lake, monkeypatch, at):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    learn(lake, DAYS[0])
    with monkeypatch.context() as patch:
        patch.setattr(gate_module if at == "publish_rows" else Registry, at, killed)
        with pytest.raises(KeyboardInterrupt):
            gate(lake, DAYS[0])
    assert "is the champion" in gate(lake, DAYS[0])
    assert Registry(lake, KUAIRAND).champion().name == "mtorl_kuairand/2"
    assert Registry(lake, KUAIRAND).named_version("mtorl_kuairand/2").decision == "promoted"
    assert {r["decision"] for r in rows(lake, PROMOTIONS, DAYS[0])} == {"promoted"}


def test_a_backfilled_day_makes_no_older_model_champion(lake):
    learn(lake, DAYS[1])
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[1])
    lines = learn(lake, DAYS[0])
    assert lines[-1] == f"mtorl_kuairand/2 has been trained through {DAYS[1]}: nothing is trained on an older day"
    # It is tested all the same, by the champion of its time.
    assert {r["model_version"] for r in rows(lake, PREQUENTIAL, DAYS[0])} == {"mtorl_kuairand/1"}
    assert gate(lake, DAYS[0]).startswith(f"no challenger of {DAYS[0]}: mtorl_kuairand/2")
    assert rows(lake, PROMOTIONS, DAYS[0]) == []
    assert learn(lake, LAST)[-1].endswith("nothing to test, nothing to train")
    assert rows(lake, PREQUENTIAL, LAST) == []
    assert names(lake) == ["mtorl_kuairand/1", "mtorl_kuairand/2"]


def test_a_challenger_of_a_day_that_the_champion_is_past_is_refused(lake):
    learn(lake, DAYS[0])
    learn(lake, DAYS[1])  # from the same parent: the gate of the first day has not been asked yet
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
def test_a_challenger_that_is_worse_in_one_head_is_refused_kept_and_reported(lake, head, spoil):
    before = Registry(lake, KUAIRAND).champion()
    spoiled = register_spoiled(lake, DAYS[0], spoil)
    said = gate(lake, DAYS[0])
    assert said.startswith(f"{spoiled.name} is refused ({head} is worse by +")
    assert Registry(lake, KUAIRAND).champion() == before
    kept = Registry(lake, KUAIRAND).challenger_of(DAYS[0])
    assert kept.name == spoiled.name
    assert kept.decision.startswith(f"refused: {head} is worse by +")
    report = {r["check"]: r for r in rows(lake, PROMOTIONS, DAYS[0])}
    assert list(report) == ["channel", "click", "long_view", "policy_audit"]
    # Flattened channels also move the policy, which its audit may find: the other heads are as they were.
    assert {name for name, r in report.items() if not r["passed"]} - {"policy_audit"} == {head}
    assert {r["decision"] for r in report.values()} == {"refused"}
    assert report[head]["high"] > report[head]["difference"] > report[head]["low"] > report[head]["margin"] > 0
    assert Registry(lake, KUAIRAND).load(kept)  # a person may look at it
    # The next day goes on from the champion, not from what was refused.
    learn(lake, DAYS[1])
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[1]).parent == before.name


def test_a_collapsed_or_leaping_policy_fails_its_audit():
    before = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7], [0.5, 0.4, 0.1]])
    assert audit_policy(before, before, 0.2) == []
    one = np.array([[0.5, 0.3, 0.2]] * 4)
    assert audit_policy(one, before, 1.0) == ["one channel for nearly everyone is a collapsed policy"]
    many = np.tile(before, (50, 1))
    nearly = np.tile(one, (50, 1))
    nearly[0] = nearly[0, ::-1]
    assert audit_policy(nearly, many, 1.0) == ["one channel for nearly everyone is a collapsed policy"]
    nearly[:4] = nearly[:4, ::-1]
    assert audit_policy(nearly, many, 1.0) == []
    assert audit_policy(one, one, 0.2) == []  # the champion does no better
    assert audit_policy(before[[0, 1, 1, 3]], before, 0.12) == [
        "12% of the probability moves to other channels, 12% is borne in a day"
    ]
    assert audit_policy(before[[0, 1, 1, 3]], before, 0.13) == []
    assert audit_policy(before * 1.1, before, 0.2) == ["probabilities do not sum to 1"]
    assert audit_policy(np.where(before == 0.7, np.nan, before), before, 0.2) == [
        "a probability is no number from 0 to 1"
    ]


def test_the_margin_is_for_the_difference_and_thrice_for_what_it_may_be():
    def found(value: float, high: float | None) -> Difference:
        return Difference("click", 50, 500, 0.5, 0.5 + value, value, None if high is None else 2 * value - high, high)

    for value, high, passes in (
        (0.0049, 0.0149, True), (0.0051, 0.0052, False), (0.0001, 0.0151, False), (-0.01, 0.0, True),
        (0.0, 0.0151, True),
        (0.0049, None, True), (0.0051, None, False),
    ):  # fmt: skip
        assert is_not_worse(found(value, high), GateConfig(margin=0.01, worst=3.0)) == passes, (value, high)


def test_rolled_back_stays_rolled_back(lake):
    for day in DAYS[:2]:
        learn(lake, day)
        assert "is the champion" in gate(lake, day)
    assert Registry(lake, KUAIRAND).champion().name == "mtorl_kuairand/3"
    with pytest.raises(UserError, match="mtorl_kuairand/9 has never been champion of kuairand: choose one of"):
        roll_back(Registry(lake, KUAIRAND), "mtorl_kuairand/9")
    assert roll_back(Registry(lake, KUAIRAND), None).startswith(
        f"mtorl_kuairand/2, trained through {DAYS[0]}, is the champion"
    )
    assert Registry(lake, KUAIRAND).load_champion()[0] == "mtorl_kuairand/2"  # what the nightly scoring loads
    # The day runs once more: the same challenger, and no way back to it but by hand.
    learn(lake, DAYS[1])
    gate(lake, DAYS[1])
    assert Registry(lake, KUAIRAND).champion().name == "mtorl_kuairand/2"
    learn(lake, DAYS[2])
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[2]).parent == "mtorl_kuairand/2"
    assert "withdrawn: mtorl_kuairand/2" in roll_back(Registry(lake, KUAIRAND), "mtorl_kuairand/1")
    with pytest.raises(UserError, match="mtorl_kuairand/1 is the first champion of kuairand"):
        roll_back(Registry(lake, KUAIRAND), None)
    # What was withdrawn is nobody's parent any more, and nothing to go back to unasked.
    learn(lake, DAYS[2])
    assert "is the champion" in gate(lake, DAYS[2])
    assert Registry(lake, KUAIRAND).champion_before(DAYS[1]).name == "mtorl_kuairand/1"
    assert roll_back(Registry(lake, KUAIRAND), None).startswith("mtorl_kuairand/1")
    assert roll_back(Registry(lake, KUAIRAND), "mtorl_kuairand/3").startswith("mtorl_kuairand/3")
    brought_back = Registry(lake, KUAIRAND).named_version("mtorl_kuairand/3")
    assert Registry(lake, KUAIRAND).champion() == replace(brought_back, withdrawn=False)


def test_a_rollback_says_whose_policies_are_still_out(tmp_path, monkeypatch):
    monkeypatch.setattr(Registry, "champion", lambda _: Version("mtorl_kuairand/2", 2, "run", DAYS[0], ""))
    lake = Lake(tmp_path / "lake")
    assert still_issued(Registry(lake, KUAIRAND)) is None  # nothing was ever scored
    for day, model in zip(DAYS, ("mtorl_kuairand/1", "mtorl_kuairand/2", "mtorl_kuairand/3"), strict=True):
        for table in ("journeys", "channel_policies"):
            with staging_folder(lake) as staged:
                lake[table, "kuairand", day].publish(staged, rows=0, inputs={"model": model}, code="c")
        line = still_issued(Registry(lake, KUAIRAND))  # of the newest day alone
        assert line == {DAYS[1]: None}.get(
            day,
            f"the policies of {day} are of {model} until that day has its nightly run again: "
            f"make backfill DATASET=kuairand FROM={day} TO={day}",
        )


def test_a_gate_that_was_waiting_during_a_rollback_does_not_undo_it(lake):
    learn(lake, DAYS[0])
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[0])
    learn(lake, DAYS[1])
    roll_back(Registry(lake, KUAIRAND), None)
    said = gate(lake, DAYS[1])
    assert said.startswith("mtorl_kuairand/3 is refused (trained from mtorl_kuairand/2, which is no longer")
    assert "run the day again" in said
    assert Registry(lake, KUAIRAND).champion().name == "mtorl_kuairand/1"
    learn(lake, DAYS[1])  # from the champion of now, as the line says
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[1]).parent == "mtorl_kuairand/1"
    assert "mtorl_kuairand/4 is the champion" in gate(lake, DAYS[1])


def test_of_days_learned_at_once_none_wins_without_the_training_of_those_before(lake):
    learn(lake, DAYS[0])
    learn(lake, DAYS[1])
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[0])
    assert "mtorl_kuairand/3 is refused (trained from mtorl_kuairand/1" in gate(lake, DAYS[1])
    assert Registry(lake, KUAIRAND).champion().name == "mtorl_kuairand/2"


def in_another_process(work) -> int:
    """The exit status of a process that does the work: 1 where it raises Busy."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except Busy:
            os._exit(1)
        finally:
            os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def take_registry(lake: Lake) -> None:
    with Registry(lake, KUAIRAND).lock():
        pass


def test_who_waits_for_the_registry_says_so_and_not_for_ever(tmp_path, monkeypatch):
    monkeypatch.setenv("MTORL_LOCK_WAIT_S", "0")
    lake = Lake(tmp_path / "lake")
    with Registry(lake, KUAIRAND).lock():
        assert in_another_process(lambda: roll_back(Registry(lake, KUAIRAND), None)) == 1
    assert in_another_process(lambda: take_registry(lake)) == 0


def test_a_champion_that_changed_during_the_training_is_asked_for_again(lake, monkeypatch):
    monkeypatch.setenv("MTORL_LOCK_WAIT_S", "0")

    def overtaken(*args):
        assert in_another_process(lambda: take_registry(lake)) == 0  # nobody waits for a training
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


def test_a_refusal_stands_against_the_champion_of_then_only(lake):
    learn(lake, DAYS[0])
    learn(lake, DAYS[1])
    assert "mtorl_kuairand/3 is the champion" in gate(lake, DAYS[1])
    assert "which is later" in gate(lake, DAYS[0])
    assert "was refused" in gate(lake, DAYS[0])
    roll_back(Registry(lake, KUAIRAND), None)
    learn(lake, DAYS[0])
    assert Registry(lake, KUAIRAND).challenger_of(DAYS[0]).name == "mtorl_kuairand/2"
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[0])


def test_the_same_training_once_more_can_be_rolled_back(lake):
    for day in DAYS[:2]:
        learn(lake, day)
        assert "is the champion" in gate(lake, day)
    said = train_champion(lake, KUAIRAND, FIRST, LAST, MTORL, CHAMPION_CONFIG)[0]
    assert said.startswith("mtorl_kuairand/1 is the champion of kuairand: it was trained on just this before; ")
    assert "in the place of mtorl_kuairand/3" in said
    again = Registry(lake, KUAIRAND).champion()
    train_champion(lake, KUAIRAND, FIRST, LAST, MTORL, CHAMPION_CONFIG)
    assert Registry(lake, KUAIRAND).champion() == again
    assert roll_back(Registry(lake, KUAIRAND), None).startswith(
        f"mtorl_kuairand/3, trained through {DAYS[1]}, is the champion"
    )
    assert roll_back(Registry(lake, KUAIRAND), None).startswith("mtorl_kuairand/2")


def test_days_that_were_promoted_win_again_after_the_same_training_once_more(lake):
    learn(lake, DAYS[0])
    gate(lake, DAYS[0])
    train_champion(lake, KUAIRAND, FIRST, LAST, MTORL, CHAMPION_CONFIG)
    learn(lake, DAYS[0])
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[0])
    assert roll_back(Registry(lake, KUAIRAND), None).startswith("mtorl_kuairand/1")


def test_the_spec_handed_out_is_the_champions_whatever_made_it_so(lake):
    handed_out = lake.table("champion", "kuairand")
    assert (handed_out / "version.txt").read_text() == "mtorl_kuairand/1\n"  # by the training
    learn(lake, DAYS[0])
    gate(lake, DAYS[0])
    roll_back(Registry(lake, KUAIRAND), None)
    assert (handed_out / "version.txt").read_text() == "mtorl_kuairand/1\n"
    (handed_out / "version.txt").unlink()
    roll_back(Registry(lake, KUAIRAND), "mtorl_kuairand/2")
    assert (handed_out / "version.txt").read_text() == "mtorl_kuairand/2\n"


def test_an_export_that_is_killed_leaves_the_spec_as_it_was(lake, monkeypatch):
    def killed(path, content):
        with path.open("wb") as file:
            file.write(content[:10])
        raise KeyboardInterrupt

    spec = lake.table("champion", "kuairand") / "feature_spec.json"
    spec.write_text("an older spec")
    before = spec.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        export_for_daily_run(Registry(lake, KUAIRAND))
    assert spec.read_bytes() == before
    assert {path.name for path in spec.parent.iterdir()} == {"feature_spec.json", "version.txt"}


def test_a_broken_day_of_the_past_stops_no_gate(lake, capsys):
    learn(lake, DAYS[0])
    found = lake["sequences", "kuairand", FIRST].manifest
    verdict = lake.audits("kuairand") / "sequences" / f"{FIRST}.json"
    verdict.parent.mkdir(parents=True)
    verdict.write_text(json.dumps({"verdict": FAILED_AUDIT, "fingerprint": found.fingerprint}))
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[0])
    assert f"left out: sequences for kuairand on {FIRST} failed its audit" in capsys.readouterr().out


def test_neither_figures_nor_a_gate_come_of_a_day_that_is_swapped_while_it_is_read(lake, monkeypatch):
    def swapped(reader):
        def read(*args, **kwargs):
            partition = lake["sequences", "kuairand", DAYS[0]].path
            with staging_folder(lake) as staging:
                shutil.copytree(partition, staging / "again")
                swap_into_place(staging / "again", partition)
            return reader(*args, **kwargs)

        return read

    with monkeypatch.context() as patch:
        patch.setattr("mtorl_model.champion.prequential.predict_labels", swapped(predict_labels))
        with pytest.raises(Busy, match="was published again while it was read"):
            learn(lake, DAYS[0])
    assert lake[PREQUENTIAL, "kuairand", DAYS[0]].manifest is None
    learn(lake, DAYS[0])
    with monkeypatch.context() as patch:
        patch.setattr("mtorl_model.evaluation.comparison.labels_of_each", swapped(labels_of_each))
        with pytest.raises(Busy, match="was published again while it was read"):
            gate(lake, DAYS[0])
    assert "mtorl_kuairand/2 is the champion" in gate(lake, DAYS[0])


def test_figures_stay_where_nothing_has_changed_and_where_nobody_can_judge_any_more(lake, monkeypatch):
    learn(lake, DAYS[0])
    tested = (lake[PREQUENTIAL, "kuairand", DAYS[0]].path / MANIFEST).stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr("mtorl_model.champion.prequential.measure_day", None)  # whoever measures now, fails
        assert "left alone" in learn(lake, DAYS[0])[0]
    # A champion of another spec, trained through all days: none of before can read the day's windows.
    monkeypatch.setattr(Registry, "champion_before", lambda *args: None)
    assert learn(lake, DAYS[0])[-1].endswith("nothing to test, nothing to train")
    assert (lake[PREQUENTIAL, "kuairand", DAYS[0]].path / MANIFEST).stat().st_ino == tested


def test_without_a_champion_one_line_says_what_to_do(tmp_path):
    empty, _ = synthetic.write_lake(tmp_path / "lake", users=10)
    for asked in (learn, gate, lambda lake, day: roll_back(Registry(lake, KUAIRAND), None)):
        with pytest.raises(UserError, match="no champion model for kuairand"):
            asked(empty, FIRST)


def test_days_of_fine_tuning_better_the_later_days_and_forget_nothing(lake):
    frozen = Registry(lake, KUAIRAND).champion()
    for day in DAYS:
        learn(lake, day, replace(CONFIG, learning_rate=1e-3, max_steps=40, passes=8))
        lenient = replace(GATE, worst=20.0)  # 30 validation users cannot show much
        assert "is the champion" in decide(Registry(lake, KUAIRAND), day, lenient, FEEDBACK)[-1]
    models = [Registry(lake, KUAIRAND).load(v) for v in (frozen, Registry(lake, KUAIRAND).champion())]
    spec = models[0].spec.version
    later, earlier = (
        {d.head: d for d in compare(lake, KUAIRAND, *models, days_cut_with(lake, KUAIRAND, spec, *span),
                                    "validation").heads}
        for span in ((DAYS[0], DAYS[-1]), (FIRST, LAST))
    )  # fmt: skip
    for head in ("channel", "click", "long_view"):
        assert later[head].other < 0.98 * later[head].one, head
        assert earlier[head].other < 1.02 * earlier[head].one, head
    # Every day was judged by the champion of the day before.
    judged = [{r["model_version"] for r in rows(lake, PREQUENTIAL, day)} for day in DAYS]
    assert judged == [{f"mtorl_kuairand/{k}"} for k in (1, 2, 3)]

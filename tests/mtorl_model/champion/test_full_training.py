"""Comparisons with the last full training and with a fresh fit: slow losses are stopped, and a full training is due."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic

from jobs.quality.audit_results import PASS, WARN
from jobs.quality.audits import audit_partition
from lakehouse.lake import Lake
from lakehouse.models.versions import Version
from lakehouse.storage.scratch import work_folder
from mtorl_model.champion import full_training
from mtorl_model.champion.gate import decide
from mtorl_model.champion.gate_rule import GateConfig, is_not_worse
from mtorl_model.champion.model_files import model_folder
from mtorl_model.champion.registry import Registry
from mtorl_model.data.batch import Batch
from mtorl_model.data.delayed_feedback import FeedbackConfig
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.data.windows.splits import split_windows
from mtorl_model.data.windows.store import WindowStore
from mtorl_model.evaluation.comparison import Difference
from mtorl_model.evaluation.label_predictions import predict_labels
from mtorl_model.methods import METHODS, register
from mtorl_model.methods.method import GAINS, Method, MethodConfig, Prediction, Run
from mtorl_model.methods.model_folder import FILES, save_model
from mtorl_model.training.checksums import write_checksums
from schemas.dataset import get_dataset
from schemas.days import day_plus
from schemas.errors import ALERT
from schemas.tables import PROMOTIONS
from schemas.tables.feature_spec import MODEL_SPEC_FILE, FeatureSpec

KUAIRAND = get_dataset("kuairand")
TRAINED = "2022-04-10"  # a Sunday: the last day of the full training
SERIES = [day_plus(TRAINED, k) for k in range(1, 61)]
SUNDAY = day_plus(TRAINED, 7)
DAILY_LOSS = 1.009  # log loss of each challenger, relative to that of its champion
GATE, WEEKLY = GateConfig(fresh_fit_weekday=0), GateConfig()
WORSE_THAN_BEST = 1.2  # the full training's log loss, relative to that of the best constant prediction


@pytest.fixture(scope="module", autouse=True)
def constant_gains() -> Iterator[None]:
    @register
    class ConstantGains(Method):
        """Predicts the same probability of a gain for every step. Its log loss is known exactly."""

        name = "constant_gains"
        predicts = frozenset({GAINS})
        fine_tunes = True

        def fit(self, train: WindowStore, valid: WindowStore, run: Run) -> "ConstantGains":
            raise NotImplementedError

        def predict(self, batch: Batch) -> Prediction:
            return Prediction(gains_XG=np.tile(self.gain_G, (*batch.valid_BL.shape, 1)))

    yield
    del METHODS._registered["constant_gains"]


@pytest.fixture(scope="module")
def trained(constant_gains: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of 61 days with equal windows, on which a model has the same log loss. The champion is a full training."""
    root = tmp_path_factory.mktemp("trained") / "lake"
    lake, spec = synthetic.write_lake(root, first_day=TRAINED, last_day=TRAINED, users=420, daily=5)
    for number, day in enumerate(SERIES, start=1):
        synthetic.repeat_day(lake, KUAIRAND, TRAINED, day, number)
    registry = registry_of(root)
    shares = (1 / 3,) * 3
    initial = InitialPolicy(spec.channels, shares, dict.fromkeys(KUAIRAND.gain_names, 0.3), shares)
    model = METHODS["constant_gains"](MethodConfig(), spec, initial)
    rate_G = validation_rates(registry, model)
    model.gain_G = np.array([constant_with(rate, WORSE_THAN_BEST * log_loss(rate, rate)) for rate in rate_G])
    registry.make_champion(registered(registry, model, TRAINED, parent=""))
    return root


@pytest.fixture
def registry(trained: Path, tmp_path: Path) -> Registry:
    shutil.copytree(trained, tmp_path / "lake")
    return registry_of(tmp_path / "lake")


def registry_of(root: Path) -> Registry:
    return Registry(Lake(root), KUAIRAND, "constant_gains")


def validation_rates(registry: Registry, model: Method) -> np.ndarray:
    """[G]: the share of the validation users' labels with each gain."""
    windows = split_windows(registry.lake, KUAIRAND, [TRAINED], "validation", model.encoder(KUAIRAND), with_times=False)
    model.gain_G = np.full(len(KUAIRAND.gain_names), 0.5)
    return predict_labels(model, windows, KUAIRAND).gain_NG.mean(axis=0)


def log_loss(rate: float, p: float) -> float:
    """The log loss of the constant prediction p."""
    return float(-rate * np.log(p) - (1 - rate) * np.log1p(-p))


def worsen(model: Method, registry: Registry, factor: float) -> None:
    """Multiply the log loss of each gain by the factor."""
    gain_G = model.gain_G
    rate_G = validation_rates(registry, model)
    model.gain_G = np.array(
        [constant_with(rate, factor * log_loss(rate, p)) for rate, p in zip(rate_G, gain_G, strict=True)]
    )


def constant_with(rate: float, loss: float) -> float:
    """The constant prediction above the rate that has this log loss, by bisection."""
    low, high = rate, 1 - 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if log_loss(rate, middle) < loss else (low, middle)
    return low


def registered(registry: Registry, model: Method, day: str, parent: str) -> Version:
    with work_folder() as folder:
        save_model(folder, model)
        return registry.register(folder, {}, [], identity=f"{day} {parent}", day=day, parent=parent)


def challenge(registry: Registry, day: str, factor: float, gate: GateConfig = GATE) -> list[str]:
    """The lines of the gate for a challenger whose log loss is `factor` times that of the champion."""
    champion = registry.champion()
    model = registry.load(champion)
    worsen(model, registry, factor)
    registry.set_challenger(registered(registry, model, day, champion.name))
    return decide(registry, day, gate, FeedbackConfig())


def checks(registry: Registry, day: str) -> dict[str, dict]:
    rows = registry.lake[PROMOTIONS, "kuairand", day].read().to_pylist()
    return {row["check"]: row for row in rows}


def is_audited(registry: Registry, day: str) -> str:
    return audit_partition(registry.lake, PROMOTIONS, KUAIRAND, day).verdict


def test_the_daily_rule_alone_lets_sixty_small_losses_pass():
    loss = 0.5
    for _ in SERIES:
        worse = (DAILY_LOSS - 1) * loss
        assert is_not_worse(Difference("click", 500, 5000, loss, loss + worse, worse, 0.5 * worse, 1.5 * worse), GATE)
        loss += worse
    assert loss / 0.5 == pytest.approx(1.009**60)
    assert loss / 0.5 > 1.7


@pytest.mark.slow
def test_sixty_days_of_small_losses_are_stopped_by_the_last_full_training(registry):
    # A refusal leaves the champion unchanged, so not every later day needs a challenger. The days that have one are on
    # both sides of the thirty days that a comparison covers.
    numbers = [1, 2, 3, 4, 15, 29, 30, 31, 32, 60]
    challenged = [SERIES[number - 1] for number in numbers]
    promoted = [day for day in challenged if "is the champion" in challenge(registry, day, DAILY_LOSS)[-1]]
    assert promoted == SERIES[:2]  # 1.009 ** 2 is within the total margin of 2 %, 1.009 ** 3 is not
    champion = registry.champion()
    assert (champion.name, champion.day) == ("constant_gains_kuairand/3", SERIES[1])
    for day in (SERIES[2], SERIES[-1]):
        failed = {name: row for name, row in checks(registry, day).items() if not row["passed"]}
        assert list(failed) == ["click_since_full_training", "long_view_since_full_training"]
        for row in failed.values():
            assert row["champion"] == "constant_gains_kuairand/1"
            assert row["challenger_logloss"] / row["champion_logloss"] == pytest.approx(1.009**3)
            assert row["margin"] == pytest.approx(0.02 * row["champion_logloss"])
            assert "worse than constant_gains_kuairand/1, the last full training, by +" in row["reason"]
        daily = checks(registry, day)["click"]
        assert daily["passed"]
        assert daily["champion"] == "constant_gains_kuairand/3"
        assert is_audited(registry, day) == PASS


def test_the_last_full_training_is_compared_only_if_it_is_not_the_champion(registry, monkeypatch):
    compared = []
    compare = full_training.compare
    monkeypatch.setattr(full_training, "compare", lambda *args, **kw: compared.append(args) or compare(*args, **kw))
    lines = challenge(registry, SERIES[0], 1.001)
    assert list(checks(registry, SERIES[0])) == ["click", "long_view"]
    assert compared == []
    assert not any("full training" in line for line in lines)
    lines = challenge(registry, SERIES[1], 1.001)
    assert len(compared) == 1
    assert compared[0][4] == [TRAINED, *SERIES[:2]]
    assert "compared with constant_gains_kuairand/1, the last full training:" in lines
    assert set(checks(registry, SERIES[1])) == {
        "click", "long_view", "click_since_full_training", "long_view_since_full_training",
    }  # fmt: skip


def test_a_loss_that_is_won_back_is_not_counted_twice(registry):
    for day, factor in zip(SERIES, (1.009, 1.009, 0.99, 1.009), strict=False):
        assert "is the champion" in challenge(registry, day, factor)[-1]
    assert "is refused" in challenge(registry, SERIES[4], 1.009)[-1]


def test_after_a_new_full_training_the_losses_count_from_it(registry):
    for day in SERIES[:2]:
        challenge(registry, day, DAILY_LOSS)
    model = registry.load(registry.champion())
    registry.make_champion(registered(registry, model, SERIES[2], parent=""))
    for day in SERIES[3:5]:
        assert "is the champion" in challenge(registry, day, DAILY_LOSS)[-1]
    assert "is refused" in challenge(registry, SERIES[5], DAILY_LOSS)[-1]
    assert checks(registry, SERIES[5])["click_since_full_training"]["champion"] == "constant_gains_kuairand/4"


def test_the_last_full_training_is_a_champion_of_that_time_that_is_not_withdrawn(registry):
    challenge(registry, SERIES[0], 1.0)
    model = registry.load(registry.champion())
    registered(registry, model, day_plus(TRAINED, -1), parent="")  # never champion
    newer = registered(registry, model, SERIES[3], parent="")
    registry.make_champion(newer)
    assert registry.last_full_training(SERIES[3]).name == newer.name
    assert registry.last_full_training(SERIES[2]).name == "constant_gains_kuairand/1"
    assert registry.last_full_training(day_plus(TRAINED, -1)) is None
    withdrawn = replace(registry.named_version(newer.name), withdrawn=True)
    registry.decide([withdrawn], seen=registry.decided())
    assert registry.last_full_training(SERIES[3]).name == "constant_gains_kuairand/1"
    # A training that became champion again is the last one, although its version is older.
    registry.make_champion(registry.named_version(newer.name))
    registry.make_champion(registry.named_version("constant_gains_kuairand/1"))
    assert registry.last_full_training(SERIES[3]).name == "constant_gains_kuairand/1"


def test_a_full_training_with_other_features_is_not_compared_and_this_is_shown(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("MTORL_SCRATCH", str(tmp_path / "scratch"))  # the copy of a model is changed below
    challenge(registry, SERIES[0], 1.0)
    full = registry.named_version("constant_gains_kuairand/1")
    file = model_folder(registry.lake, full) / MODEL_SPEC_FILE
    file.write_text(replace(FeatureSpec.from_json(file.read_text()), last_day="2022-03-01").to_json())
    write_checksums(file.parent, FILES)
    *_, line, decision = challenge(registry, SERIES[1], 1.0)
    reason = "constant_gains_kuairand/1, the last full training, reads other features"
    assert line == f"not compared with the last full training: {reason}"
    assert "is the champion" in decision
    row = checks(registry, SERIES[1])["full_training"]
    assert (row["passed"], row["reason"], row["champion"]) == (True, f"not compared: {reason}", full.name)
    assert is_audited(registry, SERIES[1]) == PASS


def behind_after_a_week(registry: Registry, gate: GateConfig = WEEKLY) -> list[str]:
    challenge(registry, SERIES[0], 1.0, gate)
    return challenge(registry, SUNDAY, 1.0, gate)


def test_a_champion_behind_a_fresh_fit_raises_an_alert_and_stays_champion(registry):
    *_, decision, alert = behind_after_a_week(registry)
    assert decision.startswith("constant_gains_kuairand/3 is the champion")
    assert alert.startswith(f"{ALERT}click of constant_gains_kuairand/3 is worse than trees fitted on the latest days")
    assert alert.endswith("start a full training (mtorl_history_kuairand)")
    rows = checks(registry, SUNDAY)
    for gain in KUAIRAND.gain_names:
        row = rows[f"{gain}_against_fresh_fit"]
        assert (row["passed"], row["champion"], row["challenger"], row["decision"]) == (
            False, "fresh_fit", "constant_gains_kuairand/3", "promoted",
        )  # fmt: skip
        assert row["challenger_logloss"] == pytest.approx(rows[gain]["challenger_logloss"])
        # The hour explains nearly all of a gain, so trees are far better than any constant prediction.
        assert row["champion_logloss"] < 0.8 * row["challenger_logloss"] / WORSE_THAN_BEST
    assert is_audited(registry, SUNDAY) == WARN


def test_a_champion_that_is_not_behind_raises_no_alert(registry):
    *_, decision = behind_after_a_week(registry, GateConfig(fresh_fit_margin=10.0))
    assert decision.startswith("constant_gains_kuairand/3 is the champion")
    assert checks(registry, SUNDAY)["click_against_fresh_fit"]["passed"]
    assert is_audited(registry, SUNDAY) == PASS


def test_of_a_refused_challenger_the_champion_is_compared_with_the_fresh_fit(registry):
    challenge(registry, SERIES[0], 1.0)
    *_, decision, alert = challenge(registry, SUNDAY, 1.5, WEEKLY)
    assert "is refused (click is worse by +" in decision
    assert "fresh" not in decision
    assert alert.startswith(f"{ALERT}click of constant_gains_kuairand/2 is worse than trees")
    assert checks(registry, SUNDAY)["click_against_fresh_fit"]["challenger"] == "constant_gains_kuairand/2"
    assert is_audited(registry, SUNDAY) == WARN


@pytest.mark.parametrize("day", [day_plus(SUNDAY, 1), SUNDAY])
def test_a_fresh_fit_is_made_on_sundays_but_not_in_the_week_after_a_full_training(registry, monkeypatch, day):
    monkeypatch.setattr(full_training, "compare_with_fresh_fit", None)  # any call fails
    if day == SUNDAY:
        model = registry.load(registry.champion())
        registry.make_champion(registered(registry, model, SERIES[0], parent=""))
    assert "is the champion" in challenge(registry, day, 1.0, WEEKLY)[-1]


def test_the_same_day_gives_the_same_comparison_with_a_fresh_fit(registry, tmp_path):
    shutil.copytree(registry.lake.root, tmp_path / "copy")
    copy = registry_of(tmp_path / "copy")
    some_windows = GateConfig(fresh_fit_windows=100)
    behind_after_a_week(registry, some_windows)
    behind_after_a_week(copy, some_windows)
    assert checks(registry, SUNDAY) == checks(copy, SUNDAY)

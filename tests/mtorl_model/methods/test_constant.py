"""A method of ten lines passes through all commands by --method, without any change outside its definition."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import synthetic

from benchmarks.inputs.made_up_journeys import DAY, publish_journeys
from lakehouse.lake import Lake
from mtorl_model import compare, evaluate, export_champion, learn, rollback, score, train
from mtorl_model.champion.registry import Registry, load_named
from mtorl_model.data.batch import Batch
from mtorl_model.data.windows.store import WindowStore
from mtorl_model.methods import METHODS, register
from mtorl_model.methods.method import GAINS, Method, Prediction, Run
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.tables import PREQUENTIAL, PROMOTIONS

KUAIRAND = get_dataset("kuairand")
FIRST, LAST, NEXT = "2022-04-10", "2022-04-11", "2022-04-12"


@pytest.fixture(autouse=True)
def constant_rate() -> Iterator[None]:
    @register
    class ConstantRate(Method):
        """Predicts every gain by its training rate: the smallest possible method."""

        name = "constant_rate"
        predicts = frozenset({GAINS})

        def fit(self, train: WindowStore, valid: WindowStore, run: Run) -> "ConstantRate":
            labels = train.windows.labels(slice(None))
            self.rate_G = labels.gains_NLG[labels.label_NL].mean(axis=0)
            return self

        def predict(self, batch: Batch) -> Prediction:
            return Prediction(gains_XG=np.tile(self.rate_G.astype(float), (*batch.valid_BL.shape, 1)))

    yield
    del METHODS._registered["constant_rate"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake, spec = synthetic.write_lake(tmp_path_factory.mktemp("lake"), "kuairand", FIRST, NEXT, users=120, daily=4)
    publish_journeys(lake, KUAIRAND, spec, 50)
    return lake


def run(module: object, monkeypatch: pytest.MonkeyPatch, lake: Lake, *flags: str) -> None:
    """Run the command in this process."""
    monkeypatch.setattr(sys, "argv", ["command", "--dataset", "kuairand", "--lake", str(lake.root), *flags])
    module.main()  # type: ignore[attr-defined]


def published(lake: Lake, table: str, day: str) -> dict[str, list[object]]:
    return lake[table, "kuairand", day].read().to_pydict()


@pytest.mark.slow
def test_it_is_trained_registered_scored_and_evaluated(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    days, method = ("--from", FIRST, "--to", LAST), ("--method", "constant_rate")
    run(train, monkeypatch, lake, *days, *method)
    assert "constant_rate_kuairand/1 is the champion of kuairand: constant_rate, days" in capsys.readouterr().out
    version, model = Registry(lake, KUAIRAND, "constant_rate").load_champion()
    assert version == "constant_rate_kuairand/1"
    rates = model.rate_G.tolist()
    assert rates == pytest.approx(list(model.initial_policy.gain_rates.values()), abs=1e-6)

    # Another method's champion is neither made nor changed. The daily run cuts windows by the spec of this one.
    assert Registry(lake, KUAIRAND).find_champion() is None
    assert (lake.table("champion", KUAIRAND) / "version.txt").read_text() == "constant_rate_kuairand/1\n"

    run(score, monkeypatch, lake, "--day", DAY, *method)
    assert "50 users scored by constant_rate_kuairand/1" in capsys.readouterr().out
    policies = published(lake, "channel_policies", DAY)
    assert set(policies["source"]) == {"initial"}
    initial = published(lake, "channel_allocation", DAY)["initial"]
    assert all([p for _, p in policy] == initial for policy in policies["policy"])
    ranks = published(lake, "user_reward_ranks", DAY)
    assert set(ranks["source"]) == {"model"}
    assert set(ranks["predicted_click"]) == {rates[0]}

    run(evaluate, monkeypatch, lake, "--split", "test", "--out", str(tmp_path / "metrics.json"), *method)
    assert "channel      not predicted by this method" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["model_version"] == "constant_rate_kuairand/1"
    assert metrics["channel"] is None
    assert metrics["reward"]["click"]["auc"] == 0.5
    assert metrics["policy"]["why"] == "the method constant_rate predicts no channel policy"

    run(learn, monkeypatch, lake, "--day", NEXT, *method)
    *tested, last, gate = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in tested[1:]] == ["click", "long_view"]
    assert last == (
        "constant_rate_kuairand/1 is not fine-tuned: the method constant_rate learns only in a full training"
    )
    assert gate.startswith(f"no challenger of {NEXT}")
    assert {row["head"] for row in rows(lake, PREQUENTIAL)} == {"click", "long_view"}
    assert rows(lake, PROMOTIONS) == []

    run(export_champion, monkeypatch, lake, "--out", str(tmp_path / "out"), *method)
    assert (tmp_path / "out" / "version.txt").read_text() == "constant_rate_kuairand/1\n"
    with pytest.raises(UserError, match="constant_rate_kuairand/1 is the first champion"):
        run(rollback, monkeypatch, lake, *method)


def rows(lake: Lake, table: str) -> list[dict[str, object]]:
    return lake[table, "kuairand", NEXT].read().to_pylist()


@pytest.mark.slow
def test_boosting_is_a_method_like_any_other_and_is_compared_with_others(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    days = ("--from", FIRST, "--to", LAST)
    for method in ("constant_rate", "boosting"):
        run(train, monkeypatch, lake, *days, "--method", method)
    assert "boosting_kuairand/1 is the champion of kuairand: gradient boosting on " in capsys.readouterr().out
    model = load_named(lake, KUAIRAND, "boosting_kuairand/1")
    assert model.name == "boosting"

    run(score, monkeypatch, lake, "--day", DAY, "--method", "constant_rate")
    run(
        score, monkeypatch, lake, "--day", DAY, "--method", "boosting"
    )  # the tables contain the scores of one model and name it
    policies = published(lake, "channel_policies", DAY)
    assert set(policies["model_version"]) == {"boosting_kuairand/1"}
    assert "model" in policies["source"]
    capsys.readouterr()
    run(score, monkeypatch, lake, "--day", DAY, "--method", "boosting")
    assert "fresh, not scored again" in capsys.readouterr().out

    run(evaluate, monkeypatch, lake, "--split", "test", "--out", str(tmp_path / "m.json"), "--method", "boosting")
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["model_version"] == "boosting_kuairand/1"
    assert metrics["channel"]["f1_macro"] > metrics["baselines"]["channel"]["most_popular"]["f1_macro"]
    assert metrics["reward"]["click"]["auc"] > 0.6

    capsys.readouterr()
    run(compare, monkeypatch, lake, "--base", "constant_rate_kuairand/1", "--candidate", "boosting_kuairand/1")
    _, *heads = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in heads] == ["click", "long_view"]  # only boosting predicts the channel


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--method", "deep"), "unknown method 'deep': choose one of ag, .*, boosting, constant_rate, .*mtorl, .*rmtl"),
        (("--method", "constant_rate", "--mu", "0.5"), "--mu: the method constant_rate has no such setting"),
        (("--method", "boosting", "--members", "2"), "--members: the method boosting has no such setting"),
        (("--method", "boosting", "--preset", "paper"), "unknown preset 'paper': choose one of small"),
        (("--reward-form", "gold"), "unknown reward_form 'gold'"),
        (("--set", "hidden"), "--set hidden: write NAME=VALUE with a value in JSON"),
        (("--set", "towers=2"), "--towers: the method mtorl has no such setting"),
        (("--set", "heads=0"), "heads is 0, must be at least 1"),
    ],
)
def test_an_unknown_method_preset_or_setting_is_an_error(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(train, monkeypatch, lake, "--from", FIRST, "--to", LAST, *flags)


def test_without_a_champion_the_error_says_how_to_train_one(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no champion model for criteo .*--method boosting"):
        Registry(lake, get_dataset("criteo"), "boosting").champion()

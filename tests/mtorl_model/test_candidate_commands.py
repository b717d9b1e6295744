"""The commands with a method on candidates: trained, registered, evaluated on unseen users, and scored at night."""

import json
import pkgutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from candidate_lake import CRITEO, DAYS, write_candidate_lake
from optional_methods import is_installed

from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from mtorl_model import evaluate, score, train
from mtorl_model.champion.registry import Registry
from mtorl_model.inference.candidate_scoring import publish_scores_of_candidates
from mtorl_model.inference.next_candidates import CANDIDATES, drawn_candidates, next_rows, predict_next
from mtorl_model.inference.task_scoring import ranked
from mtorl_model.methods import METHODS
from mtorl_model.methods.method import CANDIDATES as READS_CANDIDATES
from schemas.errors import UserError
from schemas.steps import profile_inputs
from schemas.tables import FUSION_WEIGHTS, ITEM_HISTORY, JOURNEYS, TASK_PREDICTIONS

METHOD = ("--method", "rmtl")
TINY = ("--members", "2", "--max-epochs", "2", "--set", "bottom=[8]", "--set", "tower=[4]", "--set", "experts=2",
        "--set", "critic_bottom=[4]", "--set", "critic_tower=[]", "--set", "critic_epochs=2",
        "--set", 'weighting="critics"')  # fmt: skip


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write_candidate_lake(tmp_path_factory.mktemp("lake"))


def run(module: object, monkeypatch: pytest.MonkeyPatch, lake: Lake, *flags: str) -> None:
    """Run the command in this process."""
    monkeypatch.setattr(sys, "argv", ["command", "--dataset", "criteo", "--lake", str(lake.root), *flags])
    module.main()  # type: ignore[attr-defined]


def table(lake: Lake, name: str) -> pa.Table:
    return pq.ParquetFile(lake[name, CRITEO, DAYS[-1]].files()[0]).read()


@pytest.mark.slow
def test_it_is_trained_evaluated_and_scored(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    days = ("--from", DAYS[0], "--to", DAYS[-1])
    run(train, monkeypatch, lake, *days, *METHOD, *TINY)
    assert "rmtl_criteo/1 is the champion of criteo: 2 x " in capsys.readouterr().out
    run(train, monkeypatch, lake, *days, *METHOD, *TINY)
    assert "the same training is registered already" in capsys.readouterr().out
    assert Registry(lake, CRITEO).find_champion() is None  # of another method

    run(evaluate, monkeypatch, lake, "--split", "test", "--out", str(tmp_path / "metrics.json"), *METHOD)
    assert "log loss, mean over sessions" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["channel"] is None
    assert metrics["reward"].keys() == {"click", "click_conversion"}  # the tasks, not the gains
    by_session = [
        block["click"]["s_logloss"]
        for block in (metrics["reward"], {"click": metrics["baselines"]["reward"]["click"]["gradient_boosting"]})
    ]
    assert all(0 < figure < 2 for figure in by_session)
    difference = metrics["model_minus_baseline"]["reward"]["click"]["gradient_boosting"]["s_logloss"]
    assert difference["value"] == pytest.approx(by_session[0] - by_session[1])
    assert metrics["baselines"]["reward"]["click"]["gradient_boosting"]["auc"] is not None
    with pytest.raises(UserError, match="evaluate it on held-out users of the same lake"):
        run(evaluate, monkeypatch, lake, "--sequences", str(lake.root), "--out", str(tmp_path / "m.json"), *METHOD)

    run(score, monkeypatch, lake, "--day", DAYS[-1], *METHOD)
    assert "users scored by rmtl_criteo/1" in capsys.readouterr().out
    manifest = lake[TASK_PREDICTIONS, CRITEO, DAYS[-1]].manifest
    assert manifest.inputs["model"] == "rmtl_criteo/1"
    scores = table(lake, TASK_PREDICTIONS)
    assert scores.column("user_id").to_pylist() == sorted(table(lake, JOURNEYS).column("user_id").to_pylist())
    product = np.asarray(scores.column("predicted_click")) * np.asarray(scores.column("predicted_click_conversion"))
    np.testing.assert_allclose(scores.column("predicted_product"), product)
    published = lake[TASK_PREDICTIONS, CRITEO, DAYS[-1]].files()[0].stat().st_ino
    run(score, monkeypatch, lake, "--day", DAYS[-1], *METHOD)
    assert lake[TASK_PREDICTIONS, CRITEO, DAYS[-1]].files()[0].stat().st_ino == published  # fresh
    with pytest.raises(UserError, match="leave out --basis"):
        run(score, monkeypatch, lake, "--day", DAYS[-1], "--basis", "imitation", *METHOD)

    # A chance is the mean over the drawn candidates, for any number of users in a chunk.
    _, model = Registry(lake, CRITEO, "rmtl").load_champion()
    monkeypatch.setattr("mtorl_model.inference.next_candidates.USERS_AT_ONCE", 7)
    users, predicted = zip(*predict_next(lake, CRITEO, model, DAYS[-1]), strict=True)
    by_user = dict(zip(pa.concat_arrays(users).to_pylist(), np.concatenate(predicted)[:, 0], strict=True))
    expected = [by_user[user] for user in scores.column("user_id").to_pylist()]
    np.testing.assert_allclose(scores.column("predicted_click"), expected, atol=1e-6)


def test_numbers_that_are_not_finite_are_not_published(lake: Lake) -> None:
    def publish(*values: float) -> Manifest:
        table = pa.table({"user_id": list(range(len(values))), "predicted_click": list(values)})
        return publish_scores_of_candidates(
            lake, CRITEO, FUSION_WEIGHTS, DAYS[-1], "toy_criteo", lambda: ("toy_criteo/1", None), lambda *_: table
        )

    for value in (float("nan"), float("inf")):
        with pytest.raises(UserError, match="toy_criteo/1 predicts no finite numbers"):
            publish(0.5, value)
    assert lake[FUSION_WEIGHTS, CRITEO, DAYS[-1]].manifest is None
    assert publish().rows == 0  # no user, no number


@pytest.mark.parametrize(
    "name", [name for name in METHODS if is_installed(name) and METHODS[name].reads == READS_CANDIDATES]
)
def test_a_method_on_candidates_has_one_table_and_names_what_makes_its_rows(name: str) -> None:
    assert len(METHODS[name].publishes) == 1
    assert callable(pkgutil.resolve_name(METHODS[name].score_rows))


def test_rows_of_the_next_exposure_have_the_users_history_and_the_candidate(lake: Lake) -> None:
    candidates, journeys = drawn_candidates(lake, CRITEO, DAYS[-1]), table(lake, JOURNEYS)
    assert len(candidates) == CANDIDATES
    journeys = journeys.slice(0, CANDIDATES)
    rows = next_rows(journeys, candidates, table(lake, ITEM_HISTORY), CRITEO, CRITEO.end_of_day_ms(DAYS[-1]))
    assert rows.column("user_id").to_pylist() == journeys.column("user_id").to_pylist()
    assert rows.column("campaign").to_pylist() == candidates.column("campaign").cast("string").to_pylist()
    assert set(rows.column("position").to_pylist()) == {0}
    assert len(set(rows.column("session_id").to_pylist())) == len(rows)
    seen = [step["seen_click"] for step in journeys.column("next_step").to_pylist()]
    assert rows.column("seen_click").to_pylist() == seen
    for column in profile_inputs(CRITEO):
        assert column.name in rows.column_names


def test_ranks_go_by_each_task_and_by_their_product() -> None:
    p_UT = np.array([[0.5, 0.4], [0.9, 0.1], [0.5, 0.3]])
    rows = ranked(pa.array([3, 2, 1]), p_UT, CRITEO, "rmtl_criteo/1", DAYS[-1]).to_pydict()
    assert rows["user_id"] == [1, 2, 3]
    assert rows["rank_click"] == [2, 1, 3]  # ties by user_id
    assert rows["rank_click_conversion"] == [2, 3, 1]
    assert rows["rank_product"] == [2, 3, 1]

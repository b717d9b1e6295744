"""The commands with a method of fusion: trained, evaluated, scored at night, one daily step; and fuse."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from candidate_lake import CRITEO, DAYS, write_candidate_lake

from features.user_splits import split_indices
from jobs.quality.audit_results import FAIL
from jobs.quality.audits import audit_partition
from lakehouse.lake import Lake
from mtorl_model import evaluate, fuse, learn, predict, score, train
from mtorl_model.champion.gate import audit_fusion
from mtorl_model.champion.registry import Registry
from mtorl_model.evaluation import fusion_value
from mtorl_model.methods.method import FusedScores
from mtorl_model.methods.unified_rl.fusion import log_scores
from mtorl_model.methods.unified_rl.method import UnifiedRL
from schemas.errors import UserError
from schemas.splits import SPLITS
from schemas.tables import EXPOSURES, FUSION_EXPOSURES, FUSION_WEIGHTS, JOURNEYS, PREQUENTIAL, PROMOTIONS
from schemas.tables.candidates.fusion_exposures import REWARDS, fusion_exposures

METHOD = ("--method", "unified_rl")
TINY = ("--set", "gain_iterations=10", "--set", "steps=20", "--set", "rounds=1", "--set", "critics=2",
        "--set", "min_samples_leaf=5")  # fmt: skip


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write_candidate_lake(tmp_path_factory.mktemp("lake"))


def run(module: Any, monkeypatch: pytest.MonkeyPatch, lake: Lake, *flags: str) -> None:
    """Run the command in this process."""
    monkeypatch.setattr(sys, "argv", ["command", "--dataset", "criteo", "--lake", str(lake.root), *flags])
    module.main()


@pytest.mark.slow
def test_it_is_trained_evaluated_scored_and_learns_a_day(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(train, monkeypatch, lake, "--from", DAYS[0], "--to", DAYS[0], *METHOD, *TINY)
    assert "unified_rl_criteo/1 is the champion of criteo: fusion of 2 objectives" in capsys.readouterr().out

    run(evaluate, monkeypatch, lake, "--split", "test", "--out", str(tmp_path / "metrics.json"), *METHOD)
    assert "ranking      MTF-GAUC" in capsys.readouterr().out
    ranking = json.loads((tmp_path / "metrics.json").read_text())["ranking"]
    assert 0 < ranking["mtf_gauc"]["value"] < 1
    assert ranking["baselines"].keys() == {"equal weights", "click alone", "conversion alone"}
    assert ranking["weights"] == {"click": 1.0, "conversion": 10.0}
    assert ranking["value"]["why"] == "no explored action of these users is logged with its propensity"

    actors = len(Registry(lake, CRITEO, "unified_rl").load_champion()[1]._policy.actors)

    def faults_of_challengers(model: UnifiedRL) -> list[str]:
        return ["nothing is learned"] if len(model._policy.actors) > actors else []

    with monkeypatch.context() as patch:
        patch.setattr(UnifiedRL, "self_check", faults_of_challengers)
        run(learn, monkeypatch, lake, "--day", DAYS[1], *METHOD)
    assert "unified_rl_criteo/2 is refused" in capsys.readouterr().out
    refused = {row["check"]: row["reason"] for row in rows(lake, PROMOTIONS, DAYS[1])}
    assert "nothing is learned" in refused["policy_audit"]

    run(learn, monkeypatch, lake, "--day", DAYS[-1], *METHOD)
    printed = capsys.readouterr().out
    assert "ranking: 1 - MTF-GAUC" in printed
    assert "unified_rl_criteo/3 is the challenger" in printed
    explored = rows(lake, FUSION_EXPOSURES)
    assert {row["behaviour"] for row in explored} == {"unified_rl_criteo/1"}
    assert {row["draw"] for row in explored} == {0, 1}
    assert min(row["propensity"] for row in explored) >= (1 / 0.3) ** 4 - 1e-6  # a box has at most this volume
    heads = [row["head"] for row in rows(lake, PREQUENTIAL)]
    assert heads == ["ranking"]
    assert {row["half_width"] for row in explored} == {0.15}
    for table in (PREQUENTIAL, PROMOTIONS, FUSION_EXPOSURES):
        audit = audit_partition(lake, table, CRITEO, DAYS[-1])
        assert audit.verdict != FAIL, [outcome.name for outcome in audit.failed]
    checks = {row["check"]: row for row in rows(lake, PROMOTIONS)}
    assert checks["ranking"]["champion"] == "unified_rl_criteo/1"
    assert checks["policy_audit"]["passed"]

    # From the explored actions of users on whom nothing is trained, the value of a policy is estimated.
    monkeypatch.setattr(fusion_value, "FEWEST_EFFECTIVE", 2)
    monkeypatch.setattr(fusion_value, "KERNEL_SHARE", 4.0)  # every action of the box is near
    run(evaluate, monkeypatch, lake, "--split", "test", "--out", str(tmp_path / "metrics.json"), *METHOD)
    assert "the explored actions in reward" in capsys.readouterr().out
    value = json.loads((tmp_path / "metrics.json").read_text())["ranking"]["value"]
    user_of = {row["exposure_id"]: row["user_id"] for day in DAYS for row in rows(lake, EXPOSURES, day)}
    explored += rows(lake, FUSION_EXPOSURES, DAYS[1])
    splits = split_indices(pa.chunked_array([pa.array([user_of[row["request_id"]] for row in explored])])).to_pylist()
    assert {*splits} == {0, 1, 2}
    assert value["explored"] == splits.count(SPLITS.index("test"))
    assert abs(value["minus_explored"]["value"]) < 0.01

    run(score, monkeypatch, lake, "--day", DAYS[-1], *METHOD)
    weights = pq.ParquetFile(lake[FUSION_WEIGHTS, CRITEO, DAYS[-1]].files()[0]).read()
    journeys = pq.ParquetFile(lake[JOURNEYS, CRITEO, DAYS[-1]].files()[0]).read()
    assert weights.column("user_id").to_pylist() == sorted(journeys.column("user_id").to_pylist())
    version, _ = Registry(lake, CRITEO, "unified_rl").load_champion()
    assert weights.column("model_version").unique().to_pylist() == [version]
    audit = audit_partition(lake, FUSION_WEIGHTS, CRITEO, DAYS[-1])
    assert audit.verdict != FAIL, [outcome.name for outcome in audit.failed]
    moved = np.abs(weights.column("power_click").to_numpy() - weights.column("behaviour_power_click").to_numpy())
    assert 0 < moved.max() <= 0.15 + 1e-6

    # Candidates are predicted, and the predictions are fused.
    day_rows = pq.ParquetFile(lake[EXPOSURES, CRITEO, DAYS[-1]].files()[0]).read().slice(0, 5)
    names = [name for name in day_rows.column_names if name not in ("user_id", "click", "conversion")]
    users = [*weights.column("user_id").to_pylist()[:4], -1]
    candidates = day_rows.select(names).append_column("user_id", pa.array(users, pa.int64()))
    pq.write_table(candidates, tmp_path / "candidates.parquet")
    files = ("--candidates", str(tmp_path / "candidates.parquet"), "--output", str(tmp_path / "predicted.parquet"))
    run(predict, monkeypatch, lake, *files, *METHOD)
    assert f"5 candidates predicted by {version} at the end of {DAYS[-1]}, 1 of users" in capsys.readouterr().out
    predicted = pq.read_table(tmp_path / "predicted.parquet")
    assert predicted.column("predicted_by").to_pylist() == [version] * 5
    files = ("--candidates", str(tmp_path / "predicted.parquet"), "--out", str(tmp_path / "ranked.parquet"))
    run(fuse, monkeypatch, lake, "--day", DAYS[-1], *files)
    assert "5 candidates ranked, 1 of users without weights" in capsys.readouterr().out
    fused_by = pq.read_table(tmp_path / "ranked.parquet").column("fused_by").to_pylist()
    assert fused_by == [version] * 4 + [fuse.EQUAL_WEIGHTS]

    # A service explores: each request has other weights, which are logged with their propensity.
    requests = pq.read_table(tmp_path / "predicted.parquet").append_column("request_id", pa.array(list("aabcd")))
    pq.write_table(requests.set_column(requests.column_names.index("user_id"), "user_id", pa.array(
        [users[0], users[0], *users[2:]], pa.int64())), tmp_path / "predicted.parquet")  # fmt: skip
    run(fuse, monkeypatch, lake, "--day", DAYS[-1], *files, "--explored", str(tmp_path / "explored.parquet"))
    assert "3 requests explored" in capsys.readouterr().out
    drawn = pq.read_table(tmp_path / "explored.parquet")
    logged = {column.name for column in fusion_exposures(CRITEO).columns} - {"draw", "behaviour", *REWARDS}
    assert logged < {*drawn.column_names}
    centres = {row["user_id"]: row for row in weights.to_pylist()}
    for row in drawn.to_pylist():
        centre = centres[row["user_id"]]
        assert row["behaviour_power_click"] == pytest.approx(centre["power_click"])
        assert row["behaviour_bias_click"] == pytest.approx(centre["bias_click"])
        assert 0 < abs(row["power_click"] - centre["power_click"]) <= 0.15
        assert row["propensity"] >= (1 / 0.3) ** 4 - 1e-6
    ranked = pq.read_table(tmp_path / "ranked.parquet")
    assert ranked.column("fused_rank").to_pylist() in ([1, 2, 1, 1, 1], [2, 1, 1, 1, 1])
    assert ranked.column("fused_by").to_pylist() == fused_by


def rows(lake: Lake, table: str, day: str = DAYS[-1]) -> list[dict[str, Any]]:
    return pq.ParquetFile(lake[table, CRITEO, day].files()[0]).read().to_pylist()


def weights_of(users: list[int], power: list[float]) -> pa.Table:
    unit = [1.0] * len(users)
    return pa.table({
        "user_id": pa.array(users, pa.int64()), "power_click": power, "power_conversion": unit,
        "bias_click": [0.0] * len(users), "bias_conversion": [0.05] * len(users), "model_version": ["u/1"] * len(users),
    })  # fmt: skip


def test_fuse_ranks_the_candidates_of_each_user_by_equation_1() -> None:
    candidates = pa.table({
        "user_id": [7, 8, 7, 9, 7], "item": list("abcde"),
        "predicted_click": [0.1, 0.5, 0.4, 0.5, 0.4], "predicted_conversion": [0.1, 0.1, 0.02, 0.1, 0.02],
    })  # fmt: skip
    ranked = fuse.fuse(candidates, weights_of([8, 7], [1.0, 2.0]), CRITEO)
    assert ranked.column("item").to_pylist() == list("abcde")
    assert ranked.column("fused_rank").to_pylist() == [3, 1, 1, 1, 2]  # equal scores keep their order
    expected = np.log(0.1**2 * (0.1 + 0.05))
    assert ranked.column("fused_score")[0].as_py() == pytest.approx(expected)
    assert ranked.column("fused_by").to_pylist() == ["u/1", "u/1", "u/1", fuse.EQUAL_WEIGHTS, "u/1"]
    equal = log_scores(np.array([[0.5, 0.1]]), np.zeros(4))[0]
    assert ranked.column("fused_score")[3].as_py() == pytest.approx(equal)
    assert fuse.fuse(ranked, weights_of([8, 7], [1.0, 2.0]), CRITEO) == ranked  # an earlier fusion is replaced


def test_explored_weights_rank_the_candidates_of_their_request() -> None:
    candidates = pa.table({
        "request_id": [1, 1, 2, 2, 3], "user_id": [7, 7, 7, 7, 9],
        "predicted_click": [0.1, 0.5, 0.4, 0.5, 0.4], "predicted_conversion": [0.1, 0.1, 0.02, 0.1, 0.02],
    })  # fmt: skip
    weights = weights_of([8, 7], [1.0, 1.95]).append_column("half_width", pa.array([0.15, 0.15]))
    ranked, drawn = fuse.explored(candidates, weights, CRITEO, "2026-03-01")
    assert drawn.column("request_id").to_pylist() == [1, 2]
    # The box is cut at the largest power, 2, and at the smallest bias, 0; in the two other dimensions it is .3 wide.
    assert drawn.column("propensity").to_pylist() == pytest.approx([1 / (0.2 * 0.15 * 0.3 * 0.3)] * 2)
    for number, power_click, power_conversion, bias_click, bias_conversion in zip(
        [0, 2], *(drawn.column(name).to_pylist() for name in ("power_click", "power_conversion", "bias_click",
        "bias_conversion")), strict=True,
    ):  # fmt: skip
        assert 1.8 <= power_click <= 2.0
        row = candidates.slice(number, 1).to_pylist()[0]
        score = (row["predicted_click"] + bias_click) ** power_click
        score *= (row["predicted_conversion"] + bias_conversion) ** power_conversion
        assert ranked.column("fused_score")[number].as_py() == pytest.approx(np.log(score))
    assert drawn.column("power_click")[0] != drawn.column("power_click")[1]
    assert ranked.column("fused_rank").to_pylist() == [2, 1, 2, 1, 1]
    assert ranked.column("fused_by").to_pylist() == ["u/1"] * 4 + [fuse.EQUAL_WEIGHTS]

    two_users = candidates.set_column(1, "user_id", pa.array([7, 8, 7, 7, 9]))
    with pytest.raises(UserError, match="belongs to two users"):
        fuse.explored(two_users, weights, CRITEO, "2026-03-01")
    with pytest.raises(UserError, match="lack the column request_id"):
        fuse.explored(candidates.drop_columns("request_id"), weights, CRITEO, "2026-03-01")
    without = candidates.set_column(0, "request_id", pa.array([1, None, 2, 2, 3]))
    with pytest.raises(UserError, match="1 candidates have no request_id"):
        fuse.explored(without, weights, CRITEO, "2026-03-01")
    coded = candidates.set_column(0, "request_id", pa.array([1, 1, 2, 2, 3]).dictionary_encode())
    with pytest.raises(UserError, match=r"request_id of the candidates is dictionary.*: write it as text"):
        fuse.explored(coded, weights, CRITEO, "2026-03-01")


def test_fuse_refuses_candidates_that_it_cannot_rank() -> None:
    weights = weights_of([1], [1.0])
    with pytest.raises(UserError, match="lack the column predicted_click, predicted_conversion"):
        fuse.fuse(pa.table({"user_id": [1]}), weights, CRITEO)
    for wrong in (1.5, -0.1, float("nan")):
        rows_of = pa.table({"user_id": [1], "predicted_click": [wrong], "predicted_conversion": [0.1]})
        with pytest.raises(UserError, match="not a number from 0 to 1"):
            fuse.fuse(rows_of, weights, CRITEO)
    for wrong in ({"user_id": ["ann"]}, {"predicted_click": ["often"]}):
        rows_of = pa.table({"user_id": [1], "predicted_click": [0.5], "predicted_conversion": [0.1], **wrong})
        with pytest.raises(UserError, match="another type than the lake"):
            fuse.fuse(rows_of, weights, CRITEO)
    rows_of = pa.table({
        "user_id": [1, 1], "request_id": ["a", None], "predicted_click": [0.5, 0.5], "predicted_conversion": [0.1, 0.1],
    })  # fmt: skip
    with pytest.raises(UserError, match="1 candidates have no request_id"):
        fuse.fuse(rows_of, weights, CRITEO)
    rows_of = rows_of.set_column(0, "user_id", pa.array([1, 2])).set_column(1, "request_id", pa.array(["a", "a"]))
    with pytest.raises(UserError, match="belongs to two users"):  # else their candidates would be ranked together
        fuse.fuse(rows_of, weights, CRITEO)


def fusion(power_NI: np.ndarray, bias_NI: np.ndarray | None = None) -> FusedScores:
    bias_NI = np.full_like(power_NI, 0.05) if bias_NI is None else bias_NI
    return FusedScores(power_NI[:, 0], power_NI, power_NI, bias_NI, power_NI, bias_NI)


def test_the_gate_refuses_a_challenger_that_collapses_or_leaves_the_box_around_the_champion() -> None:
    usual_NI = np.full((50, 2), 1.0)
    varied_NI = usual_NI + np.linspace(-0.05, 0.05, 50)[:, None]
    usual, varied = fusion(usual_NI), fusion(varied_NI)
    assert audit_fusion(usual, usual, 0.15) == []
    assert audit_fusion(varied, usual, 0.15) == []
    assert audit_fusion(fusion(usual_NI + 0.15), usual, 0.15) == []
    assert audit_fusion(usual, varied, 0.15) == [
        "all exposures have one action where the champion's actions vary: a collapsed policy"
    ]
    assert "one score: a collapsed policy" in audit_fusion(fusion(np.full((50, 2), 0.01)), usual, 2.0)[0]
    moved_NI = usual_NI.copy()
    moved_NI[:20, 1] += 0.16
    assert "40% of the exposures have weights outside the box of 0.15" in audit_fusion(fusion(moved_NI), usual, 0.15)[0]
    bias_NI = np.full((50, 2), 0.06)  # .05 of a bias are 1 of an action: this one moves by .2
    assert "100% of the exposures have weights outside" in audit_fusion(fusion(usual_NI, bias_NI), usual, 0.15)[0]
    assert "not a number from 0 to 2" in audit_fusion(fusion(np.full((50, 2), np.nan)), usual, 0.15)[0]
    assert "not a number from 0 to 2" in audit_fusion(fusion(np.full((50, 2), 2.5)), usual, 2.0)[0]

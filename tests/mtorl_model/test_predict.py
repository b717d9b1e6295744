"""Predictions for given candidates: the user's history, the candidate's own columns, and refusals."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from candidate_lake import CRITEO, DAYS, write_candidate_lake

from lakehouse.lake import Lake
from lakehouse.reading import read_tables
from mtorl_model import predict
from mtorl_model.data.candidates.reading import read_candidates
from mtorl_model.inference.given_candidates import empty_journey, predict_given
from mtorl_model.inference.next_candidates import candidate_columns
from mtorl_model.methods.method import Prediction
from schemas.contract import Known
from schemas.errors import UserError
from schemas.steps import derived_inputs
from schemas.tables import EXPOSURES, JOURNEYS, STEPS

DAY = DAYS[-1]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write_candidate_lake(tmp_path_factory.mktemp("lake"))


class Probe:
    """A method whose two chances are the user's known exposures and the code of the candidate's campaign."""

    def __init__(self, lake: Lake) -> None:
        _, encoder = read_candidates(lake, CRITEO, DAYS)
        self.encoder, self.encoding, self.label_names = encoder, encoder.to_json(), ("seen", "campaign")

    def predict(self, store: Any) -> Prediction:
        seen_N = store.numeric_NF[:, store.numeric_names.index("seen_exposures")]
        campaign_N = store.categorical_NK[:, store.categorical_names.index("campaign")]
        return Prediction(gains_XG=np.column_stack([seen_N, campaign_N]).astype(np.float64))


def candidates_for(lake: Lake, users: list[int | None]) -> pa.Table:
    rows = pa.concat_tables(read_tables([lake[EXPOSURES, CRITEO, DAY]], list(candidate_columns(CRITEO))))
    return rows.slice(0, len(users)).append_column("user_id", pa.array(users, pa.int64()))


def test_each_candidate_has_its_users_history_and_its_own_columns(lake: Lake) -> None:
    journeys = pq.ParquetFile(lake[JOURNEYS, CRITEO, DAY].files()[0]).read()
    seen = dict(
        zip(
            journeys.column("user_id").to_pylist(),
            [step["seen_exposures"] for step in journeys.column("next_step").to_pylist()],
            strict=True,
        )
    )
    regular, newcomer = max(seen, key=seen.__getitem__), min(seen, key=seen.__getitem__)
    assert seen[regular] > seen[newcomer]
    users, probe = [regular, newcomer, -1, newcomer, regular], Probe(lake)
    candidates = candidates_for(lake, users)
    chance_NT, unknown = predict_given(lake, CRITEO, probe, candidates, DAY)  # type: ignore[arg-type]
    scale = probe.encoder.scales["seen_exposures"]
    expected = scale.apply(np.array([seen.get(user, 0) for user in users], np.float64))
    np.testing.assert_allclose(chance_NT[:, 0], expected, rtol=1e-6)
    codes = pc.index_in(candidates.column("campaign"), pa.array(probe.encoder.vocabularies["campaign"], pa.string()))
    np.testing.assert_array_equal(chance_NT[:, 1], np.asarray(pc.fill_null(codes, -1)) + 1)
    assert unknown == 1
    backwards, _ = predict_given(lake, CRITEO, probe, candidates.take(pa.array([4, 3, 2, 1, 0])), DAY)  # type: ignore[arg-type]
    np.testing.assert_array_equal(backwards[::-1], chance_NT)
    assert predict_given(lake, CRITEO, probe, candidates.slice(0, 0), DAY)[0].shape == (0, 2)  # type: ignore[arg-type]


def test_many_candidates_are_predicted_in_parts(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    users = pq.ParquetFile(lake[JOURNEYS, CRITEO, DAY].files()[0]).read().column("user_id").to_pylist()[:7]
    candidates, probe = candidates_for(lake, [*users, -1]), Probe(lake)
    at_once, _ = predict_given(lake, CRITEO, probe, candidates, DAY)  # type: ignore[arg-type]
    monkeypatch.setattr("mtorl_model.inference.given_candidates._ROWS_AT_ONCE", 3)
    np.testing.assert_array_equal(predict_given(lake, CRITEO, probe, candidates, DAY)[0], at_once)  # type: ignore[arg-type]


def test_a_user_without_a_journey_has_the_inputs_of_a_first_exposure(lake: Lake) -> None:
    steps = pq.ParquetFile(lake[STEPS, CRITEO, DAYS[0]].files()[0]).read()
    first = steps.filter(pc.equal(steps.column("seen_exposures"), 0)).to_pylist()[0]
    empty = empty_journey(CRITEO).column("next_step")[0].as_py()
    assert {c.name: empty[c.name] for c in derived_inputs(CRITEO)} == {
        c.name: first[c.name] for c in derived_inputs(CRITEO)
    }
    assert {empty[column.name] for column in CRITEO.features(Known.BEFORE)} == {None}


def test_candidates_that_cannot_be_predicted_are_refused_in_one_line(lake: Lake) -> None:
    candidates, probe = candidates_for(lake, [1, 2]), Probe(lake)
    for wrong, message in (
        (candidates.drop_columns(["campaign"]), "lack the column campaign"),
        (candidates.drop_columns(["user_id", "channel"]), "lack the column user_id, channel"),
        (candidates_for(lake, [1, None]), "1 candidates have no user_id"),
        (
            candidates.drop_columns(["user_id"]).append_column("user_id", pa.array(["ann", "bob"])),
            "column user_id is not a bigint",
        ),
    ):
        with pytest.raises(UserError, match=message) as raised:
            predict_given(lake, CRITEO, probe, wrong, DAY)  # type: ignore[arg-type]
        assert "\n" not in str(raised.value)


def test_the_command_refuses_a_method_that_does_not_know_the_candidate(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flags = ["--dataset", "criteo", "--lake", str(lake.root), "--output", str(tmp_path / "out.parquet")]
    missing = ["--candidates", str(tmp_path / "no.parquet")]
    monkeypatch.setattr(sys, "argv", ["command", *flags, *missing, "--method", "mtorl"])
    with pytest.raises(UserError, match="--method mtorl predicts before the candidate is known"):
        predict.main()
    monkeypatch.setattr(sys, "argv", ["command", *flags, *missing, "--method", "rmtl"])
    with pytest.raises(UserError, match=r"no\.parquet is not a file"):
        predict.main()

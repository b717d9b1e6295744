"""The study of all methods at equal budget on random exposures: days, users, budget, differences, resumption."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic import make_spec, publish_spec, write_lake

from lakehouse.storage.scratch import work_folder
from mtorl_model.methods import METHODS
from mtorl_model.studies.baselines import replay, tables
from mtorl_model.studies.baselines.spaces import base_config
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.splits import TEST, split_of
from schemas.tables import EXPOSURES

KUAIRAND = get_dataset("kuairand")
TRAINED_DAY, DAY, SECOND_DAY = "2022-04-10", "2022-04-11", "2022-04-12"
BUDGET = 40
METHODS_COMPARED = ["mtorl", "boosting", "cql"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Three days; all exposures of the last two were drawn at random; the spec knows the first alone."""
    lake, _ = write_lake(tmp_path_factory.mktemp("lake"), last_day=SECOND_DAY, users=250, daily=5)
    publish_spec(lake, KUAIRAND, make_spec(KUAIRAND, TRAINED_DAY, TRAINED_DAY))
    for day in (DAY, SECOND_DAY):
        table = lake[EXPOSURES, "kuairand", day].read()
        index = table.column_names.index("propensity")
        table = table.set_column(index, table.schema.field(index), pa.array([1 / 3] * len(table)))
        with work_folder() as staged:
            pq.write_table(table, staged / "part-0.parquet")
            lake[EXPOSURES, "kuairand", day].publish(staged, inputs={}, code="test")
    return lake


def run(lake, seeds=2, budget=BUDGET):
    return replay.run_replay(lake, KUAIRAND, METHODS_COMPARED, DAY, SECOND_DAY, budget, seeds=seeds, max_epochs=1)


@pytest.fixture(scope="module")
def result(lake):
    return run(lake)


def test_every_method_spends_at_most_the_budget_on_test_users(lake, result):
    rows = {row["strategy"]: row for row in result["rows"]}
    assert list(rows) == ["mtorl", replay.RANDOM, "boosting", "cql"]
    assert all(0 < row["exposures"] <= BUDGET for row in rows.values())
    exposed = lake[EXPOSURES, "kuairand", DAY].read(["user_id"])["user_id"].to_pylist()
    exposed += lake[EXPOSURES, "kuairand", SECOND_DAY].read(["user_id"])["user_id"].to_pylist()
    assert result["users"] == len({user for user in exposed if split_of(user) == TEST})
    assert rows["mtorl"]["difference"]["click"] == {"value": 0, "low": 0, "high": 0}
    assert rows["cql"]["difference"]["click"]["value"] == pytest.approx(
        rows["cql"]["gains"]["click"]["value"] - rows["mtorl"]["gains"]["click"]["value"]
    )
    assert f"trained on {TRAINED_DAY} to {TRAINED_DAY}" in result["protocol"]
    assert result["command"].endswith(
        f"FROM={DAY} TO={SECOND_DAY} BUDGET={BUDGET} SEEDS=2 EPOCHS=1 METHODS='mtorl boosting cql'"
    )


def test_figures_are_those_of_all_campaigns_together(lake, result, monkeypatch):
    """The campaigns are read from the files of the first run; a run that trained again would fail."""
    monkeypatch.setattr(replay, "open_windows", lambda *_: pytest.fail("trained again"))
    assert run(lake) == result
    files = sorted((lake.studies(KUAIRAND) / "replay").glob("cql_*.npz"))
    sums = [replay.stored_arrays(file)["cql"] for file in files]
    assert len(sums) == 2
    exposures, clicks, _ = np.sum(sums, axis=(0, 1))
    row = next(row for row in result["rows"] if row["strategy"] == "cql")
    assert row["exposures"] == exposures / 2
    assert row["gains"]["click"]["value"] == clicks / exposures


def test_a_killed_study_continues(lake, monkeypatch):
    calls = []
    real = replay.advertise

    def kill(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(replay, "advertise", kill)
    with pytest.raises(KeyboardInterrupt):
        run(lake, seeds=1, budget=20)
    run(lake, seeds=1, budget=20)
    assert len(calls) == 2 + 2 + 2  # MTORL's two campaigns again, as they are one file; two other methods


def test_a_spec_that_knows_the_days_of_the_campaign_is_refused(lake):
    with pytest.raises(UserError, match=r"no feature spec of days before 2022-04-10: .*build_feature_spec"):
        replay.run_replay(lake, KUAIRAND, ["mtorl"], TRAINED_DAY, DAY, BUDGET, seeds=1)


def test_the_settings_are_those_of_the_study_of_methods(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "_study_file", lambda *_: tmp_path / "baselines.json")
    assert replay._config(lake, KUAIRAND, "cql", None) == base_config("cql", "kuairand", None)
    chosen = base_config("cql", "kuairand", None).changed({"alpha": 3.0})
    assert isinstance(chosen, METHODS["cql"].Config)
    (tmp_path / "baselines.json").write_text(json.dumps({"settings": {"cql": json.loads(chosen.to_json())}}))
    assert replay._config(lake, KUAIRAND, "cql", None) == chosen
    assert replay._config(lake, KUAIRAND, "cql", 1) == chosen.changed({"max_epochs": 1})
    with pytest.raises(UserError, match="does not contain din"):
        replay._config(lake, KUAIRAND, "din", None)


def test_the_table_has_a_row_for_each_strategy(result):
    text = "\n".join(tables.equal_budget(result))
    assert "| mtorl |" in text
    assert f"| {replay.RANDOM} |" in text
    assert "click minus mtorl" in text

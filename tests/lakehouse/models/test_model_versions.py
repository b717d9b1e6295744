"""Our queries on MLflow's tables give the same as MLflow. They fail if an upgrade of MLflow changes its schema."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.lake import Lake
from lakehouse.models.versions import aliased_version, model_versions, run_curves, run_experiment

MODEL = "mtorl_kuairand"
KILLED_WRITER = Path(__file__).with_name("killed_sqlite_writer.py")


@pytest.mark.slow
def test_our_queries_give_the_same_as_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    lake = Lake(tmp_path / "ein See, größer")  # the path becomes part of a URI
    lake.mlflow_database.parent.mkdir(parents=True)
    client = MlflowClient(tracking_uri=lake.mlflow_uri, registry_uri=lake.mlflow_uri)
    experiment = client.create_experiment("kuairand", artifact_location=lake.mlflow_artifacts.as_uri())
    for name in ("mtorl_criteo", MODEL):
        client.create_registered_model(name)
    runs = [client.create_run(experiment).info.run_id for _ in range(12)]
    client.log_batch(runs[0], params=[Param("seed", "7"), Param("day", "2022-05-08")])
    for step, value in ((2, 0.25), (1, 0.5), (3, math.nan)):
        client.log_batch(runs[0], [Metric("loss", value, 1_000 * step, step), Metric("auc", 1 - value, 1_000, step)])
    for number, run in enumerate(runs, start=1):  # more than ten, so that 10 has to come after 9
        tags = {"identity": "other" if number == 1 else "", "day": f"2022-04-{number:02}"}
        client.create_model_version(MODEL if number > 1 else "mtorl_criteo", "file:///nowhere", run, tags=tags)
    client.set_model_version_tag(MODEL, "3", "reign", "1")
    client.set_model_version_tag(MODEL, "3", "reign", "2")
    client.delete_model_version_tag(MODEL, "4", "day")
    client.delete_model_version(MODEL, "5")
    for alias, number in (("champion", 3), ("champion", 10), ("challenger-2022-04-04", 4)):
        client.set_registered_model_alias(MODEL, alias, str(number))
    client.delete_registered_model_alias(MODEL, "challenger-2022-04-04")

    versions = sorted(
        client.search_model_versions(f"name = '{MODEL}'", max_results=1_000), key=lambda v: int(v.version)
    )
    assert [v.version for v in model_versions(lake, MODEL)] == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert [(v.name, v.version, v.run_id, v.tags) for v in model_versions(lake, MODEL)] == [
        (v.name, int(v.version), v.run_id, v.tags) for v in sorted(versions, key=lambda v: int(v.version))
    ]
    aliases = client.get_registered_model(MODEL).aliases
    assert aliased_version(lake, MODEL, "champion") == int(aliases["champion"]) == 10
    assert aliased_version(lake, MODEL, "challenger-2022-04-04") is None
    assert aliased_version(lake, "mtorl_criteo", "champion") is None
    for figure, curve in run_curves(lake, runs[0]).items():
        history = {m.step: m.value for m in client.get_metric_history(runs[0], figure)}
        assert curve == pytest.approx(history, nan_ok=True)
    assert run_curves(lake, runs[0]).keys() == {"loss", "auc"}
    assert run_curves(lake, runs[0])["loss"] == pytest.approx({1: 0.5, 2: 0.25, 3: math.nan}, nan_ok=True)
    assert run_experiment(lake, runs[0]) == experiment
    with pytest.raises(LookupError, match="no run nobody"):
        run_experiment(lake, "nobody")

    versions_before = model_versions(lake, MODEL)
    subprocess.run([sys.executable, str(KILLED_WRITER), str(lake.mlflow_database)], check=True)
    assert Path(f"{lake.mlflow_database}-journal").stat().st_size > 0
    assert model_versions(lake, MODEL) == versions_before


def test_a_lake_without_models_has_no_versions_and_no_new_files(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert model_versions(lake, MODEL) == []
    assert aliased_version(lake, MODEL, "champion") is None
    assert not list(tmp_path.iterdir())

"""Where a lake's MLflow store is, and one clear line where it cannot be or does not answer."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from lakehouse.lake import Lake
from mtorl_model.champion.mlflow_store import (
    _copy_once,
    experiment_of,
    has_own_store,
    mlflow_client,
    registry_uri,
    tracking_uri,
    without_password,
)
from schemas.errors import Busy, UserError


class BucketLake:
    """A lake whose root is a URI."""

    root = "s3://bucket/lake"


def test_the_environment_names_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path)
    in_lake = f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert (tracking_uri(lake), registry_uri(lake), has_own_store(lake)) == (in_lake, in_lake, True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert (tracking_uri(lake), registry_uri(lake), has_own_store(lake)) == (*["http://server:5000"] * 2, False)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "postgresql://registry/models")
    assert (tracking_uri(lake), registry_uri(lake)) == ("http://server:5000", "postgresql://registry/models")


def test_a_lake_in_a_bucket_needs_a_store_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lake = BucketLake()
    with pytest.raises(UserError, match=r"^s3://bucket/lake is in an object store, .*: set MLFLOW_TRACKING_URI to "):
        tracking_uri(lake)  # type: ignore[arg-type]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert tracking_uri(lake) == "http://server:5000"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("postgresql://me:secret@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("no answer from http://me:s@cret@server/x today", "no answer from http://server/x today"),
        ("sqlite:////data/lake/mlflow.db", "sqlite:////data/lake/mlflow.db"),
        ("http://server:5000", "http://server:5000"),
    ],
)
def test_no_message_has_a_password(text: str, printed: str) -> None:
    assert without_password(text) == printed


@pytest.mark.slow(0.5)
def test_a_server_that_does_not_answer_is_one_line_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")  # the discard port
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Busy) as raised, mlflow_client(Lake(tmp_path)) as client:
        client.search_experiments()
    assert str(raised.value).startswith("MLflow at http://127.0.0.1:9: ")
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_of_two_runs_that_create_the_store_at_once_the_first_counts(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / content).write_text(content)
        _copy_once(tmp_path / content, tmp_path / "lake" / "mlflow.db")
    assert (tmp_path / "lake" / "mlflow.db").read_text() == "first"
    assert [path.name for path in (tmp_path / "lake").iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize(
    ("store", "location"),
    [
        ("", "file://{lake}/mlflow/artifacts/kuairand"),
        ("postgresql+psycopg2://db/mlflow", "file://{lake}/mlflow/artifacts/kuairand"),
        ("http://server:5000", None),
        ("databricks", None),
    ],
)
def test_artifacts_are_below_the_lake_unless_a_server_places_them(
    store: str, location: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    created: dict[str, str | None] = {}

    class Client:
        def create_experiment(self, name: str, artifact_location: str | None) -> None:
            created[name] = artifact_location

        def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
            known = name in created
            return SimpleNamespace(experiment_id=name, artifact_location=created[name]) if known else None

    assert experiment_of(Client(), Lake(tmp_path), "kuairand") == "kuairand"  # type: ignore[arg-type]
    assert created == {"kuairand": location and location.format(lake=tmp_path)}

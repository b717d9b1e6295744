"""Models through a real MLflow server that proxies the artifacts: registered, promoted, loaded, and damaged."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from synthetic import padded_windows

from lakehouse.lake import Lake
from lakehouse.storage.scratch import scratch_folder
from mtorl_model.champion.pyfunc import describe_for_mlflow
from mtorl_model.champion.registry import Registry, load_named
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.methods.model_folder import WEIGHTS, save_model
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.rollback import roll_back
from mtorl_model.training.config import TrainConfig
from schemas.dataset import get_dataset
from schemas.errors import Busy, UserError
from schemas.tables.feature_spec import FeatureSpec

KUAIRAND = get_dataset("kuairand")
DAY = "2022-04-11"
POLICY = InitialPolicy(("short", "mid", "long"), (0.2, 0.3, 0.5), {"click": 0.25, "long_view": 0.125}, (0.5, 0.4, 0.1))
CONFIG = MTORLConfig(ModelConfig(hidden=16, trees=False), LossConfig(), TrainConfig(device="cpu"))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A server with its own database and artifact folder, named by the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--serve-artifacts"]
    command += ["--artifacts-destination", str(tmp_path / "store")]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    address = f"http://127.0.0.1:{port}"
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log, cwd=tmp_path)
        try:
            wait_until_it_answers(f"{address}/health", process, tmp_path / "server.log")
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            monkeypatch.setenv("MTORL_SCRATCH", str(tmp_path / "scratch"))
            yield process
        finally:
            process.terminate()
            process.wait(30)


def wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


@pytest.mark.slow
def test_a_champion_goes_through_the_server_and_damage_there_gives_no_result(
    server: subprocess.Popen[bytes],
    synthetic_lake: tuple[Lake, FeatureSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mlflow

    lake, spec = Lake(tmp_path / "lake"), synthetic_lake[1]
    registry = Registry(lake, KUAIRAND)
    models = [MTORL(replace_seed(seed), spec, POLICY).initialise() for seed in (1, 2)]
    for number, model in enumerate(models, start=1):
        folder = tmp_path / f"model{number}"
        save_model(folder, model)
        describe_for_mlflow(folder, model, KUAIRAND)
        version = registry.register(folder, {"seed": number}, [{"loss": 0.5}], identity=str(number), day=DAY)
        registry.make_champion(version)
    assert registry.find_version("1").name == "mtorl_kuairand/1"
    assert not (lake.root / "mlflow").exists()

    with pytest.raises(
        UserError, match=rf"^mtorl_kuairand in MLflow belongs to the lake {lake.root}: give {tmp_path}/2 "
    ):
        Registry(Lake(tmp_path / "2"), KUAIRAND).register(folder, {}, [], identity="3", day=DAY)

    # For any other program: by its alias, on a frame of sequences.
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    windows = padded_windows(synthetic_lake[0], KUAIRAND, synthetic_lake[1], [DAY]).to_pandas()
    loaded = mlflow.pyfunc.load_model("models:/mtorl_kuairand@champion")
    assert str(loaded.metadata.run_id or version.run_id) == version.run_id
    predicted = loaded.predict(windows)
    table = padded_windows(synthetic_lake[0], KUAIRAND, synthetic_lake[1], [DAY])
    gains = models[1].predict(models[1].encoder(KUAIRAND).encode(table).batch()).gains_XG[:, -1]
    pd.testing.assert_series_equal(
        predicted["click"].reset_index(drop=True), pd.Series(gains[:, 0]), check_names=False, check_dtype=False
    )

    # On a machine that has no copy, and where MLflow has another file than was written.
    shutil.rmtree(scratch_folder("models"))
    assert registry.load_champion()[0] == "mtorl_kuairand/2"
    (stored,) = (tmp_path / "store").rglob(f"{registry.named_version('mtorl_kuairand/1').run_id}/**/{WEIGHTS}")
    weights = stored.read_bytes()
    stored.write_bytes(weights[:-1] + b"x")
    with pytest.raises(
        UserError, match=r"^mtorl_kuairand/1 in MLflow: model/weights.pt is damaged, .*\(make rollback\)"
    ):
        load_named(lake, KUAIRAND, "mtorl_kuairand/1")
    assert [path.name for path in scratch_folder("models").iterdir()] == [version.run_id]

    with pytest.raises(UserError, match="is damaged"):
        roll_back(registry, None)
    assert registry.champion().number == 2
    stored.write_bytes(weights)
    assert roll_back(registry, None).startswith("mtorl_kuairand/1, trained through 2022-04-11, is the champion")
    aliased = mlflow.MlflowClient().get_model_version_by_alias("mtorl_kuairand", "champion")
    assert (int(aliased.version), aliased.tags["reign"]) == (1, "1")
    assert mlflow.MlflowClient().get_model_version("mtorl_kuairand", "2").tags["withdrawn"] == "yes"

    # Without the server, what is decided and the copies of this machine are enough.
    server.terminate()
    server.wait(30)
    assert load_named(lake, KUAIRAND, "mtorl_kuairand/2").name == "mtorl"
    assert registry.champion().number == 1
    with pytest.raises(Busy, match=rf"^MLflow at {os.environ['MLFLOW_TRACKING_URI']}: "):
        registry.find_version("1")


def replace_seed(seed: int) -> MTORLConfig:
    return replace(CONFIG, train=replace(CONFIG.train, seed=seed))

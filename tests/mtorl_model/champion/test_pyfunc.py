"""A champion as an MLflow python function: loaded by its alias, it predicts for a frame of windows."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import padded_windows

from lakehouse.lake import Lake
from mtorl_model.champion.mlflow_store import tracking_uri
from mtorl_model.champion.pyfunc import EXAMPLE, describe_for_mlflow, example_windows, predict_frame
from mtorl_model.champion.registry import Registry
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.methods.model_folder import WEIGHTS, save_model
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.training.config import TrainConfig
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec

KUAIRAND = get_dataset("kuairand")
DAY = "2022-04-11"
POLICY = InitialPolicy(("short", "mid", "long"), (0.2, 0.3, 0.5), {"click": 0.25, "long_view": 0.125}, (0.5, 0.4, 0.1))
CONFIG = MTORLConfig(ModelConfig(hidden=16, trees=False), LossConfig(), TrainConfig(device="cpu"))
OUTPUTS = ["channel_short", "channel_mid", "channel_long", "click", "long_view"]


@pytest.fixture
def model(synthetic_lake: tuple[Lake, FeatureSpec]) -> MTORL:
    return MTORL(CONFIG, synthetic_lake[1], POLICY).initialise()


@pytest.fixture
def windows(synthetic_lake: tuple[Lake, FeatureSpec]) -> pd.DataFrame:
    return padded_windows(synthetic_lake[0], KUAIRAND, synthetic_lake[1], [DAY]).to_pandas()


def test_a_frame_is_predicted_as_the_table_is(
    model: MTORL, windows: pd.DataFrame, synthetic_lake: tuple[Lake, FeatureSpec]
) -> None:
    table = padded_windows(synthetic_lake[0], KUAIRAND, synthetic_lake[1], [DAY])
    expected = model.predict(model.encoder(KUAIRAND).encode(table).batch())
    windows.index = pd.Index([f"row {k}" for k in range(len(windows))])
    predicted = predict_frame(model, KUAIRAND, windows)
    assert list(predicted) == OUTPUTS
    assert list(predicted.index) == list(windows.index)
    last = np.concatenate([expected.policy_XA[:, -1], expected.gains_XG[:, -1]], axis=1)
    np.testing.assert_allclose(predicted.to_numpy(), last, atol=1e-6)


def test_a_frame_without_a_column_is_an_error_that_names_it(model: MTORL, windows: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="lack the column seen_click"):
        predict_frame(model, KUAIRAND, windows.drop(columns="seen_click"))


def test_the_example_has_no_row_of_the_log(model: MTORL, windows: pd.DataFrame) -> None:
    example = example_windows(model, KUAIRAND)
    assert set(example) <= set(windows)
    assert len(example) == 1
    assert not example.isin(windows.user_id.tolist()).any(axis=None)


@pytest.mark.slow
def test_mlflow_loads_the_champion_by_its_alias_and_checks_the_columns(
    model: MTORL, windows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "lake")
    registry, folder = Registry(lake, KUAIRAND), tmp_path / "model"
    save_model(folder, model)
    describe_for_mlflow(folder, model, KUAIRAND)
    version = registry.register(folder, {}, [], identity="one", day=DAY)
    registry.make_champion(version)

    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(lake))
    loaded = mlflow.pyfunc.load_model("models:/mtorl_kuairand@champion")
    windows.loc[0, "user_active_degree"] = None
    expected = predict_frame(model, KUAIRAND, windows)
    pd.testing.assert_frame_equal(loaded.predict(windows), expected)
    whole_days = windows.fillna({"register_days": 3}).astype({"register_days": "int64"})
    pd.testing.assert_frame_equal(loaded.predict(whole_days), predict_frame(model, KUAIRAND, whole_days))
    assert loaded.metadata.signature.outputs.input_names() == OUTPUTS
    assert list(loaded.predict(loaded.input_example)) == OUTPUTS
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"missing inputs.*seen_click"):
        loaded.predict(windows.drop(columns="seen_click"))

    (weights,) = (lake.root / "mlflow" / "artifacts").rglob(WEIGHTS)
    damaged = bytearray(weights.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(UserError, match=r"weights\.pt is damaged"):
        mlflow.pyfunc.load_model("models:/mtorl_kuairand@champion")
    assert json.loads((weights.parent / EXAMPLE).read_text())["columns"] == list(example_windows(model, KUAIRAND))

"""A registered model as an MLflow python function: mlflow.pyfunc.load_model("models:/mtorl_kuairand@champion").

Its input is a frame of windows in the layout of the table `sequences`; other columns are ignored. Its output has, for
the last step of each window, the probability of each channel and of each gain that the method predicts, with the index
of the input. MLmodel names this module as the loader, so the project must be on the Python path.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mtorl_model.data.encoding import Encoder
from mtorl_model.methods.method import WINDOWS, WINDOWS_AT_ONCE, Method, Prediction
from mtorl_model.methods.model_folder import load_model
from schemas.dataset import Dataset, get_dataset
from schemas.steps import window_columns

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

EXAMPLE = "input_example.json"


def describe_for_mlflow(folder: Path, model: Method, dataset: Dataset) -> None:
    """Add the files by which MLflow loads a model folder: MLmodel, with the signature, and an example of the input.

    They are added only for methods that read windows: no table of the lake has the whole input of the others.
    """
    if model.reads != WINDOWS:
        return
    from mlflow import pyfunc
    from mlflow.models import Model

    example = example_windows(model, dataset)
    (folder / EXAMPLE).write_text(example.to_json(orient="split", index=False))
    described = Model(
        signature=_signature(example, predict_frame(model, dataset, example)),
        saved_input_example_info={"artifact_path": EXAMPLE, "type": "dataframe", "pandas_orient": "split"},
    )
    pyfunc.add_to_model(described, loader_module=__name__)
    described.save(folder / "MLmodel")


def example_windows(model: Method, dataset: Dataset) -> pd.DataFrame:
    """A made-up window, all of whose steps are real: no row of the log leaves the lake with the model."""
    steps, width = model.config.steps, len(model.spec.channels)
    contract = {column.name: column.dtype for column in window_columns(dataset)}
    words = {feature.name: feature.vocabulary[0] for feature in model.spec.kept_features if feature.vocabulary}
    scalars = {"boolean": True, "string": model.spec.channels[0], "double": 0.0, "int": 0, "bigint": 0}

    def value(name: str) -> Any:
        dtype = contract[name]
        if dtype.startswith("array<array"):
            return [[0] * width for _ in range(steps)]
        scalar = scalars[dtype.removeprefix("array<").removesuffix(">")]
        scalar = words.get(name, scalar) if isinstance(scalar, str) else scalar
        return [scalar] * steps if dtype.startswith("array") else scalar

    return pd.DataFrame({name: [value(name)] for name in _columns(model, dataset)})


def predict_frame(model: Method, dataset: Dataset, frame: pd.DataFrame) -> pd.DataFrame:
    """The prediction for the last step of each window: a column `channel_<name>` or `<gain>` for each probability.

    Raises UserError where a column is missing or the windows have different lengths.
    """
    encoder = model.encoder(dataset)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    starts = range(0, len(frame), WINDOWS_AT_ONCE)
    parts = [_last_step(model, encoder, table.slice(start, WINDOWS_AT_ONCE)) for start in starts]
    predicted = Prediction.concatenate(parts) if parts else Prediction()
    columns: dict[str, Any] = {}
    if predicted.policy_XA is not None:
        names = (f"channel_{channel}" for channel in model.spec.channels)
        columns |= dict(zip(names, predicted.policy_XA.T, strict=True))
    if predicted.gains_XG is not None:
        columns |= dict(zip(model.spec.gains, predicted.gains_XG.T, strict=True))
    return pd.DataFrame(columns, index=frame.index)


def _last_step(model: Method, encoder: Encoder, windows: pa.Table) -> Prediction:
    predicted = model.predict_last(encoder.encode(windows).batch())
    return Prediction(*(None if array is None else np.asarray(array)[:, -1] for array in predicted))


def _columns(model: Method, dataset: Dataset) -> list[str]:
    return list(dict.fromkeys(model.encoder(dataset).columns))


def _signature(inputs: Iterable[str], outputs: Iterable[str]) -> "ModelSignature":
    """The names of all columns. Inputs have no type: MLflow's lists have no nulls, and a null makes integers floats."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    return ModelSignature(
        Schema([ColSpec(AnyType(), name) for name in inputs]), Schema([ColSpec(DataType.double, n) for n in outputs])
    )


class LoadedModel:
    """The object that mlflow.pyfunc calls."""

    def __init__(self, model: Method) -> None:
        self._model, self._dataset = model, get_dataset(model.spec.dataset)

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """See predict_frame. The model has no parameters."""
        return predict_frame(self._model, self._dataset, frame)


def _load_pyfunc(path: str) -> LoadedModel:
    """Called by MLflow, by this name. Raises UserError where a file of the model is damaged."""
    return LoadedModel(load_model(Path(path)))

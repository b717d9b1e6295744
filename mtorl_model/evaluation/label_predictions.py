"""A model's predictions for the labels of windows, with the observed outcomes: the basis of every evaluation.

Shape suffixes as in batch.py, with N labels in place of windows and F features.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.reading import rechunk
from mtorl_model.data.delayed_feedback import LabelCutoff
from mtorl_model.data.encoding import Encoded
from mtorl_model.methods.method import WINDOWS_AT_ONCE, Method, Prediction
from schemas.dataset import Dataset
from schemas.errors import UserError


class LabelPredictions(NamedTuple):
    """Predictions and outcomes, one entry per label step: N labels, A channels, G gains, F features."""

    user_N: npt.NDArray[np.int64]
    exposure_N: npt.NDArray[np.int64]  # exposure_id
    action_N: npt.NDArray[np.int64]  # -1 for a channel that the feature spec does not know
    previous_N: npt.NDArray[np.int64]  # the user's previous channel, -1 without one; see previous_channel
    gain_NG: npt.NDArray[np.float64]
    prediction: Prediction  # [N]
    feature_NF: npt.NDArray[np.float32]  # F is 0 if they were not requested
    maturity_NG: npt.NDArray[np.float64]  # probability that a gain is already in gain_NG, see delayed_feedback.py

    def take(self, rows: Any) -> "LabelPredictions":
        """A selection of the labels: indices or a mask."""
        chosen: dict[str, Any] = {name: array[rows] for name, array in self._asdict().items() if name != "prediction"}
        return LabelPredictions(**chosen, prediction=self.prediction.take(rows))


def predict_labels(
    model: Method,
    tables: Iterable[pa.Table],
    dataset: Dataset,
    cutoff: LabelCutoff | None = None,
    *,
    with_features: bool = False,
) -> LabelPredictions:
    """Predict every label step of `tables`, windows in the layout of schemas/tables/sequences.py.

    cutoff: take the gains as known at that moment; None: the full outcome. with_features: add the model's inputs,
    which need most of the memory. Only label steps stay in memory, not the windows. Raises UserError without labels.
    """
    predictions = labels_of_each([model], tables, dataset, cutoff, with_features=with_features)
    if predictions is None:
        raise UserError(f"no step of these windows of {dataset.name} is a label: evaluate other days or users")
    return predictions[0]


def labels_of_each(
    models: Sequence[Method],
    tables: Iterable[pa.Table],
    dataset: Dataset,
    cutoff: LabelCutoff | None = None,
    *,
    with_features: bool = False,
) -> list[LabelPredictions] | None:
    """predict_labels for several models with one feature spec, reading the windows once; None without labels.

    Features are those of the first model; those of other models are left out.
    """
    encoders = {model.config.reward_inputs.name: model.encoder(dataset) for model in models}
    users, windows = [pa.array([], pa.string())], 0
    parts: list[list[LabelPredictions]] = [[] for _ in models]
    for table in rechunk(tables, WINDOWS_AT_ONCE):
        encoded = {name: encoder.encode(table, cutoff) for name, encoder in encoders.items()}
        for number, (model, parts_of_model) in enumerate(zip(models, parts, strict=True)):
            inputs = encoded[model.config.reward_inputs.name]
            parts_of_model.append(_label_steps(model, table, inputs, windows, with_features and number == 0))
        users += table.column("user_id").cast(pa.string()).chunks
        windows += len(table)
    if not any(len(part.user_N) for part in parts[0]):
        return None
    user_N = pa.concat_arrays(users).dictionary_encode().indices.to_numpy().astype(np.int64)
    pooled = [_concatenated(parts_of_model) for parts_of_model in parts]
    return [labels._replace(user_N=user_N[labels.user_N]) for labels in pooled]


def _concatenated(parts: Sequence[LabelPredictions]) -> LabelPredictions:
    columns = dict(zip(LabelPredictions._fields, zip(*parts, strict=True), strict=True))
    prediction = Prediction.concatenate(columns.pop("prediction"))
    return LabelPredictions(**{name: np.concatenate(arrays) for name, arrays in columns.items()}, prediction=prediction)


def _label_steps(
    model: Method, table: pa.Table, encoded: Encoded, windows: int, with_features: bool
) -> LabelPredictions:
    """Predict a table's label steps; user_N has window numbers. windows: the number of windows before this table."""
    label_BL = encoded.label_NL
    previous_BL = previous_channel(encoded.action_NL, _per_step(table, "exposed_at_ms", label_BL.shape))
    return LabelPredictions(
        user_N=windows + label_BL.nonzero()[0],
        exposure_N=_per_step(table, "exposure_id", label_BL.shape)[label_BL],
        action_N=encoded.action_NL[label_BL].astype(np.int64),
        previous_N=previous_BL[label_BL],
        gain_NG=encoded.gains_NLG[label_BL].astype(np.float64),
        prediction=model.predict(encoded.batch()).take(label_BL),
        feature_NF=encoded.label_features() if with_features else np.empty((label_BL.sum(), 0), np.float32),
        maturity_NG=encoded.maturity_NLG[label_BL].astype(np.float64),
    )


def previous_channel(
    action_BL: npt.NDArray[np.integer[Any]], exposed_at_BL: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The latest known channel strictly before each step's time, within the window; -1 without one.

    action_BL: the step's channel, -1 if unknown or padding. exposed_at_BL: ms, ascending; -1 at padding.
    It is taken from the earlier steps of the window, so that the baseline needs no feature that the spec may have
    dropped. As in the model's inputs, steps with the same time stamp do not see each other.
    """
    step_L = np.arange(action_BL.shape[1])
    latest_known_BL = np.maximum.accumulate(np.where(action_BL >= 0, step_L, -1), axis=1)
    new_time_BL = np.diff(exposed_at_BL, axis=1, prepend=-2) != 0
    earlier_BL = np.maximum.accumulate(np.where(new_time_BL, step_L, 0), axis=1) - 1  # the last step of an earlier time
    latest_BL = np.where(earlier_BL >= 0, np.take_along_axis(latest_known_BL, np.maximum(earlier_BL, 0), axis=1), -1)
    channel_BL = np.take_along_axis(action_BL, np.maximum(latest_BL, 0), axis=1)
    return np.where(latest_BL >= 0, channel_BL, -1).astype(np.int64)


def _per_step(table: pa.Table, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """A list column of whole numbers as [N, L]; null becomes -1."""
    values: npt.NDArray[np.int64] = (
        table.column(name).combine_chunks().flatten().fill_null(-1).to_numpy().reshape(shape)
    )
    return values

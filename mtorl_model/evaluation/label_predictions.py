"""What the model says at every label of some windows, beside what came of it: what all judging of it rests on.

Shape suffixes as in batch.py, with N labels in place of windows and F features.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.reading import regrouped
from mtorl_model.data.delayed_feedback import KnownBy
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.inference.prediction import WINDOWS_AT_ONCE, predict
from mtorl_model.methods.mtorl.artifact import Artifact
from schemas.dataset import Dataset
from schemas.errors import UserError


class Labels(NamedTuple):
    """Everything that is measured, one entry a label step: N labels, A channels, G gains, F features."""

    user_N: npt.NDArray[np.int64]
    exposure_N: npt.NDArray[np.int64]  # exposure_id
    action_N: npt.NDArray[np.int64]
    previous_N: npt.NDArray[np.int64]  # the channel that copying repeats, -1 for none
    gain_NG: npt.NDArray[np.float64]
    policy_NA: npt.NDArray[np.float64]
    predicted_NG: npt.NDArray[np.float64]
    feature_NF: npt.NDArray[np.float32]  # F is 0 where nobody asked for them
    maturity_NG: npt.NDArray[np.float64]  # chance that a gain to come is in gain_NG, see delayed_feedback.py


def predict_labels(
    artifact: Artifact,
    tables: Iterable[pa.Table],
    dataset: Dataset,
    known_by: KnownBy | None = None,
    *,
    with_features: bool = False,
) -> Labels:
    """What the model says at every label step of `tables`, windows in the layout of schemas/tables/sequences.py.

    known_by: the moment whose knowledge the gains hold; None: the full outcome. with_features: the model's own inputs,
    too, which are most of the memory. Only the label steps are held, not the windows. Raises UserError where there is
    no label.
    """
    said = labels_of_each([artifact], tables, dataset, known_by, with_features=with_features)
    if said is None:
        raise UserError(f"nothing to evaluate for {dataset.name}: no step of these windows is a label")
    return said[0]


def labels_of_each(
    artifacts: Sequence[Artifact],
    tables: Iterable[pa.Table],
    dataset: Dataset,
    known_by: KnownBy | None = None,
    *,
    with_features: bool = False,
) -> list[Labels] | None:
    """predict_labels of several models, the windows read once; None where there is no label."""
    encoders = {a.config.reward_form: Encoder(a.spec, dataset, a.config.reward_form) for a in artifacts}
    users, windows = [pa.array([], pa.string())], 0
    parts: list[list[tuple[npt.NDArray[Any], ...]]] = [[] for _ in artifacts]
    for table in regrouped(tables, WINDOWS_AT_ONCE):
        by_form = {form: encoder.encode(table, known_by) for form, encoder in encoders.items()}
        for artifact, of_artifact in zip(artifacts, parts, strict=True):
            encoded = by_form[artifact.config.reward_form]
            of_artifact.append(_label_steps(artifact, table, encoded, windows, with_features))
        users += table.column("user_id").cast(pa.string()).chunks
        windows += len(table)
    if not any(len(part[0]) for part in parts[0]):
        return None
    user_N = pa.concat_arrays(users).dictionary_encode().indices.to_numpy().astype(np.int64)
    steps = ([np.concatenate(column) for column in zip(*of_artifact, strict=True)] for of_artifact in parts)
    return [Labels(user_N[window_N], *rest) for window_N, *rest in steps]


def _label_steps(
    artifact: Artifact, table: pa.Table, encoded: Encoded, windows: int, with_features: bool
) -> tuple[npt.NDArray[Any], ...]:
    """The fields of Labels for a table's label steps, with the window in place of the user. windows: before it."""
    policy_BLA, gains_BLG = predict(artifact, encoded.batch())
    label_BL = encoded.label_NL
    previous_BL = previous_channel(encoded.action_NL, _per_step(table, "exposed_at_ms", label_BL.shape))
    return (
        windows + label_BL.nonzero()[0],
        _per_step(table, "exposure_id", label_BL.shape)[label_BL],
        encoded.action_NL[label_BL].astype(np.int64),
        previous_BL[label_BL],
        encoded.gains_NLG[label_BL].astype(np.float64),
        policy_BLA[label_BL],
        gains_BLG[label_BL],
        label_features(encoded) if with_features else np.empty((label_BL.sum(), 0), np.float32),
        encoded.maturity_NLG[label_BL].astype(np.float64),
    )


def label_features(encoded: Encoded) -> npt.NDArray[np.float32]:
    """[N, F]: the model's own inputs at each label step: numbers, a_{t-1}, r_{t-1}, and category codes as numbers.

    Codes count from the most frequent category, so that a tree can split common ones from rare ones.
    """
    batch = encoded.batch()
    inputs = (batch.numeric_BLF, batch.action_in_BLA, batch.reward_in_BLR, batch.categorical_BLK)
    return np.concatenate([x[batch.label_BL].numpy().astype(np.float32) for x in inputs], axis=1)


def previous_channel(
    action_BL: npt.NDArray[np.integer[Any]], exposed_at_BL: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The latest known channel strictly before each step's time, within the window; -1 where there is none.

    action_BL: the step's channel, -1 where unknown or padding. exposed_at_BL: ms, ascending; -1 at padding.
    It is read off the window's own earlier steps, so that the baseline needs no feature that the spec may
    have dropped; steps of one time stamp do not see each other, as in the model's inputs.
    """
    step_L = np.arange(action_BL.shape[1])
    latest_known_BL = np.maximum.accumulate(np.where(action_BL >= 0, step_L, -1), axis=1)
    new_time_BL = np.diff(exposed_at_BL, axis=1, prepend=-2) != 0
    before_BL = np.maximum.accumulate(np.where(new_time_BL, step_L, 0), axis=1) - 1  # the last earlier time's last step
    latest_BL = np.where(before_BL >= 0, np.take_along_axis(latest_known_BL, np.maximum(before_BL, 0), axis=1), -1)
    channel_BL = np.take_along_axis(action_BL, np.maximum(latest_BL, 0), axis=1)
    return np.where(latest_BL >= 0, channel_BL, -1).astype(np.int64)


def _per_step(table: pa.Table, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """A whole-number list column as [N, L]; -1 where null."""
    values: npt.NDArray[np.int64] = (
        table.column(name).combine_chunks().flatten().fill_null(-1).to_numpy().reshape(shape)
    )
    return values

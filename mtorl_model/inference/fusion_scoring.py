"""The table `fusion_weights` of a day, from the champion of a method that predicts a fusion.

Shapes: U users, I objectives.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from lakehouse.lake import Lake
from lakehouse.rows import arrow_schema
from mtorl_model.data.fusion_columns import weight_arrays
from mtorl_model.inference.next_candidates import predictions_of_next
from mtorl_model.methods.method import Floats, Method
from schemas.dataset import Dataset
from schemas.tables.candidates.fusion_weights import fusion_weights


def weights_table(lake: Lake, dataset: Dataset, model: Method, version: str, day: str) -> pa.Table:
    """The rows of the table, by user_id."""
    parts = list(_weights(lake, dataset, model, day))
    users = pa.concat_arrays([user_id for user_id, _ in parts])
    weights = (np.concatenate(arrays) for arrays in zip(*(weights for _, weights in parts), strict=True))
    columns = {dataset.user_id.column.name: users, **weight_arrays(dataset, *weights, half_width=model.half_width)}
    columns["model_version"] = pa.array([version] * len(users), pa.string())
    columns["day"] = pa.array([day] * len(users), pa.string())
    return pa.table(columns, arrow_schema(fusion_weights(dataset))).sort_by(dataset.user_id.column.name)


def _weights(
    lake: Lake, dataset: Dataset, model: Method, day: str
) -> Iterator[tuple[pa.Array, tuple[Floats, Floats, Floats, Floats]]]:
    """user_id, and powers and biases of the policy and of its behaviour policy, (U, I), in chunks.

    They are the same for all candidates of a user.
    """
    for user_id, predicted in predictions_of_next(lake, dataset, model, day):
        fused = predicted.fused
        yield user_id, (
            fused.power_XI[:, 0], fused.bias_XI[:, 0], fused.behaviour_power_XI[:, 0], fused.behaviour_bias_XI[:, 0],
        )  # fmt: skip

"""Weights for requests, drawn around those of their users, as they are logged for learning.

Shapes: N requests, I objectives, D action.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mtorl_model.data.fusion_columns import weight_arrays
from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.exploration import explore
from mtorl_model.methods.unified_rl.fusion import action_of, biases_of, powers_of
from schemas.dataset import Dataset
from schemas.tables.candidates.fusion_weights import bias_column, power_column

Floats = npt.NDArray[np.float64]


def explored_weights(requests: pa.Table, weights: pa.Table, dataset: Dataset, day: str) -> pa.Table:
    """A row for each request of a user with weights: request_id, user_id, the weights that are served, the user's own
    weights at the centre of the box (`behaviour_...`, as in `fusion_exposures`), half_width, propensity, model_version
    and day.

    requests: request_id, user_id, a row for each candidate; a request has one user. weights: rows of `fusion_weights`,
    at least one.
    """
    requests = requests.group_by(["request_id", "user_id"], use_threads=False).aggregate([])
    row_N = pc.index_in(requests.column("user_id"), value_set=weights.column("user_id").combine_chunks())
    requests, row_N = requests.filter(row_N.is_valid()), row_N.drop_null()
    weights = weights.take(row_N)
    names = [objective.name for objective in dataset.objectives]
    centre_ND = action_of(_matrix(weights, map(power_column, names)), _matrix(weights, map(bias_column, names)))
    half_width = float(weights.column("half_width")[0].as_py()) if len(weights) else 0.0
    request_id = requests.column("request_id").combine_chunks()
    # The scale of the penalty has no part in a draw.
    explored = explore(centre_ND, Box(half_width, penalty_scale=1.0), request_id, day)
    served = [*map(powers_of, (explored.action_ND, centre_ND)), *map(biases_of, (explored.action_ND, centre_ND))]
    power_NI, centre_power_NI, bias_NI, centre_bias_NI = served
    columns = {"request_id": request_id, "user_id": requests.column("user_id")}
    columns |= weight_arrays(dataset, power_NI, bias_NI, centre_power_NI, centre_bias_NI, half_width=half_width)
    columns["propensity"] = pa.array(explored.propensity_N)
    columns["model_version"] = weights.column("model_version")
    columns["day"] = pa.array([day] * len(requests), pa.string())
    return pa.table(columns)


def _matrix(weights: pa.Table, columns: Iterable[str]) -> Floats:
    return np.column_stack([weights.column(column).to_numpy() for column in columns])

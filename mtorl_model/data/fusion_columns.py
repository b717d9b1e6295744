"""The weights of fusions as columns of `fusion_weights` and `fusion_exposures`.

Shapes: N rows, I objectives.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.dataset import Dataset
from schemas.tables.candidates.fusion_weights import behaviour_column, bias_column, power_column

Floats = npt.NDArray[np.float64]


def weight_arrays(
    dataset: Dataset, power_NI: Floats, bias_NI: Floats, behaviour_power_NI: Floats, behaviour_bias_NI: Floats, *,
    half_width: float,
) -> dict[str, pa.Array]:  # fmt: skip
    """The columns of weight_columns (schemas/tables/candidates/fusion_weights.py) by name."""
    names = [objective.name for objective in dataset.objectives]
    weight_columns = [*map(power_column, names), *map(bias_column, names)]
    columns = [*weight_columns, *map(behaviour_column, weight_columns)]
    weights = np.concatenate([power_NI, bias_NI, behaviour_power_NI, behaviour_bias_NI], axis=1)
    arrays = {column: pa.array(np.ascontiguousarray(w_N)) for column, w_N in zip(columns, weights.T, strict=True)}
    return arrays | {"half_width": pa.array(np.full(len(weights), half_width))}

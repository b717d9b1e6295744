"""The table `task_predictions` of a day, from the champion of a method on candidates.

Shapes: U users, T tasks.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.lake import Lake
from lakehouse.rows import arrow_schema
from mtorl_model.inference.next_candidates import predict_next
from mtorl_model.inference.ranking import best_first
from mtorl_model.methods.method import Method
from schemas.dataset import Dataset
from schemas.tables.candidates.task_predictions import score_names, task_predictions


def tasks_table(lake: Lake, dataset: Dataset, model: Method, version: str, day: str) -> pa.Table:
    """The rows of `task_predictions`."""
    users, predicted = zip(*predict_next(lake, dataset, model, day), strict=True)
    return ranked(pa.concat_arrays(users), np.concatenate(predicted), dataset, version, day)


def ranked(user_id: pa.Array, p_UT: npt.NDArray[np.float64], dataset: Dataset, version: str, day: str) -> pa.Table:
    """The rows of the table, by user_id."""
    names = score_names(dataset)
    scores = dict(zip(names, [*p_UT.T, p_UT.prod(axis=1)][: len(names)], strict=True))
    columns = {dataset.user_id.column.name: user_id}
    columns |= {f"predicted_{name}": pa.array(np.ascontiguousarray(p_U)) for name, p_U in scores.items()}
    for name, p_U in scores.items():
        rank_U = np.empty(len(p_U), np.int64)
        rank_U[best_first(user_id, p_U).to_numpy()] = np.arange(1, len(p_U) + 1)
        columns[f"rank_{name}"] = pa.array(rank_U)
    columns["model_version"] = pa.array([version] * len(user_id), pa.string())
    columns["day"] = pa.array([day] * len(user_id), pa.string())
    return pa.table(columns, arrow_schema(task_predictions(dataset))).sort_by(dataset.user_id.column.name)

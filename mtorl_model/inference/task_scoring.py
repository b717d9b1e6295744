"""The table `task_predictions` of a day, from the champion of a method on candidates.

Shapes: U users, T tasks.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.code_version import code_version
from lakehouse.lake import Lake, Partition
from lakehouse.manifest import Manifest
from lakehouse.reading import consistent_read
from lakehouse.rows import arrow_schema
from lakehouse.storage.scratch import work_folder
from mtorl_model.inference.next_candidates import predict_next
from mtorl_model.inference.ranking import best_first
from mtorl_model.methods.method import Method
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import EXPOSURES, ITEM_HISTORY, JOURNEYS, TASK_PREDICTIONS
from schemas.tables.candidates.task_predictions import score_names, task_predictions

_INPUTS = (JOURNEYS, EXPOSURES, ITEM_HISTORY)


def publish_task_predictions(
    lake: Lake, dataset: Dataset, day: str, registered: str, load_champion: Callable[[], tuple[str, Method]]
) -> Manifest:
    """Publish the table of a day; see publish_scores_of_candidates."""
    return publish_scores_of_candidates(lake, dataset, TASK_PREDICTIONS, day, registered, load_champion, tasks_table)


def publish_scores_of_candidates(
    lake: Lake,
    dataset: Dataset,
    table: str,
    day: str,
    registered: str,
    load_champion: Callable[[], tuple[str, Method]],
    make_table: Callable[[Lake, Dataset, Method, str, str], pa.Table],
) -> Manifest:
    """Publish a table of a day by the champion of a registered model (rmtl_kuairand), unless it is fresh.

    load_champion: its version and model. make_table: the rows, of lake, dataset, model, version and day. Scores that a
    version of the registered model made from the present inputs stay, on the newest day only those of the champion. So
    a new champion does not change earlier days. Raises UserError if an input of the day is missing or a prediction is
    not finite; Busy if an input is published again in the meantime.
    """
    partition = lake[table, dataset, day]
    for name in _INPUTS:
        lake[name, dataset, day].require()
    with consistent_read(lake[name, dataset, day] for name in _INPUTS):
        inputs, made_by = partition.current_inputs(), _made_by(partition)
        is_newest = lake.days(JOURNEYS, dataset)[-1] == day
        is_fresh = partition.is_fresh({**inputs, "model": made_by})
        if partition.manifest and is_fresh and not is_newest and made_by.startswith(f"{registered}/"):
            return partition.manifest
        version, model = load_champion()
        if partition.manifest and is_fresh and made_by == version:
            return partition.manifest
        rows = make_table(lake, dataset, model, version, day)
    with work_folder() as staged:
        pq.write_table(rows, staged / "part-0.parquet")
        return partition.publish(staged, inputs={**inputs, "model": version}, code=code_version("mtorl_model"))


def _made_by(partition: Partition) -> str:
    return partition.manifest.inputs.get("model", "") if partition.manifest else ""


def tasks_table(lake: Lake, dataset: Dataset, model: Method, version: str, day: str) -> pa.Table:
    """The rows of `task_predictions`. Raises UserError if a prediction is not finite."""
    users, predicted = zip(*predict_next(lake, dataset, model, day), strict=True)
    p_UT = np.concatenate(predicted)
    if not np.isfinite(p_UT).all():
        raise UserError(f"model {version} predicts no finite numbers on {day}: train it again (make run)")
    return ranked(pa.concat_arrays(users), p_UT, dataset, version, day)


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

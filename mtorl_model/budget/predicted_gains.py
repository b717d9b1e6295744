"""The predicted click and reward of each user by which a plan values pairs, from the table of a chosen method.

U users.
"""

import numpy as np
import pyarrow as pa

from lakehouse.lake import Lake
from mtorl_model.data.money import Floats
from mtorl_model.inference.channel_level import click_gain
from mtorl_model.inference.ranking import fused_reward
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import TASK_PREDICTIONS, USER_REWARD_RANKS

GAIN_TABLES = (USER_REWARD_RANKS, TASK_PREDICTIONS)  # a plan can be made by the predictions of any of them


def predicted_gains(
    lake: Lake, dataset: Dataset, day: str, table: str, user_id: pa.ChunkedArray
) -> tuple[Floats, Floats]:
    """[U] each: the probability of a click and the predicted reward, in the order of user_id, which is ascending.

    table: one of GAIN_TABLES. Of TASK_PREDICTIONS, a gain is the first task with it: the second gain counts together
    with the first. Raises UserError if the table has other users, or no prediction of a gain.
    """
    columns = (
        _columns_of_tasks(dataset) if table == TASK_PREDICTIONS else [f"predicted_{g}" for g in dataset.gain_names]
    )
    rows = lake[table, dataset, day].read(["user_id", *dict.fromkeys(columns)]).sort_by("user_id")
    if not rows.column("user_id").equals(user_id):
        raise UserError(f"{table} of {dataset.name} on {day} has other users than the policies: score the day again")
    gains_UG = np.stack([rows.column(name).to_numpy() for name in columns], axis=1)
    weights = tuple(gain.weight for gain in dataset.gains)
    return gains_UG[:, click_gain(dataset)], fused_reward(gains_UG, weights)


def _columns_of_tasks(dataset: Dataset) -> list[str]:
    """The column of each gain of the dataset."""
    columns = []
    for gain in dataset.gain_names:
        task = next((task for task, gains in dataset.tasks.items() if gains[-1] == gain), None)
        if task is None:
            raise UserError(
                f"{TASK_PREDICTIONS} of {dataset.name} has no prediction of {gain}, which is part of the reward: name "
                "it in the contract's implied_label, or plan by the gains of another method"
            )
        columns.append(f"predicted_{task}")
    return columns

"""User-level allocation (section 3.7.2 of the paper): the order of the users by predicted reward."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]


def fused_reward(gains_UG: Floats, gain_weights: tuple[float, ...]) -> Floats:
    """The predicted reward of each user, [U]: the mean of the predicted gains with the weights of equation 18."""
    return np.average(gains_UG, axis=1, weights=gain_weights)


def best_first(user_id: pa.Array, reward_U: Floats) -> pa.Array:
    """The indices of the users, greatest reward first, ties by user_id ascending (text by its UTF-8 bytes)."""
    users = pa.table({"user_id": user_id, "reward": reward_U})
    return pc.sort_indices(users, sort_keys=[("reward", "descending"), ("user_id", "ascending")])

"""User-level allocation (section 3.7.2 of the paper): who is worth a budget, by predicted reward."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]


def fused_reward(gains_UG: Floats, gain_weights: tuple[float, ...]) -> Floats:
    """The predicted reward of U users: the mean of their predicted gains, weighted as equation 18 fuses them."""
    return np.average(gains_UG, axis=1, weights=gain_weights)


def best_first(user_id: pa.Array, reward_U: Floats) -> pa.Array:
    """The indices of the users, greatest reward first, ties by user_id ascending (text by its UTF-8 bytes)."""
    users = pa.table({"user_id": user_id, "reward": reward_U})
    return pc.sort_indices(users, sort_keys=[("reward", "descending"), ("user_id", "ascending")])

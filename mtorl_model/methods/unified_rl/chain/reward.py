"""The reward of an exposure: the weighted sum of its objectives (equation 2).

Shapes: N exposures, I objectives, Q groups of rewards.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from mtorl_model.data.candidate_store import CandidateStore
from schemas.dataset import Dataset
from schemas.errors import UserError

Floats = npt.NDArray[np.float64]

GROUPS = 2  # what counts as a consumption, which is the first objective; and the others


def reward_weights(dataset: Dataset, train: CandidateStore) -> Floats:
    """[I]: the weights of the objectives, the contract's, or fitted ones.

    In the paper, weights follow from the correlation with the time spent; no more is published. Here they are the
    coefficients of a non-negative regression of the exposures that are left of the session on this exposure's
    objectives.

    Raises UserError if no objective has a weight above 0.
    """
    weight_I = np.array([np.nan if o.weight is None else o.weight for o in dataset.objectives])
    is_open_I = np.isnan(weight_I)
    if is_open_I.any():
        weight_I[is_open_I] = fitted_weights(train)[is_open_I]
    if not (weight_I > 0).any():
        raise UserError(
            f"all objectives of {dataset.name} have the weight 0, given in the contract or fitted to the length of "
            "sessions: give one a weight above 0 in the contract (objectives)"
        )
    return weight_I


def advice_on_weights(names: Sequence[str], weight_I: Floats) -> str:
    """A line that names the objectives without a weight in the reward; empty if all have one."""
    unweighted = [name for name, weight in zip(names, weight_I, strict=True) if weight == 0]
    if not unweighted:
        return ""
    listed = ", ".join(unweighted)
    return (
        f"{listed}: weight 0 in the reward, so rankings do not seek it; if it matters, give it a weight in "
        "the contract (objectives)"
    )


def fitted_weights(train: CandidateStore) -> Floats:
    """[I]: non-negative coefficients of the objectives, the largest of which is 1; zeros without a positive one."""
    left_N = remaining(train)
    # The intercept may have either sign.
    design_NK = np.column_stack([train.objectives_NI.astype(np.float64), np.ones(len(train)), -np.ones(len(train))])
    coefficients_K, _ = nnls(design_NK, left_N)
    weight_I: Floats = coefficients_K[:-2] / (coefficients_K[:-2].max() or 1.0)
    return weight_I


def remaining(store: CandidateStore) -> Floats:
    """[N]: the exposures after each one in its session."""
    starts = store.session_start_S
    end_N = np.repeat(np.append(starts[1:], len(store)), np.diff(starts, append=len(store)))
    return (end_N - 1.0 - np.arange(len(store))).astype(np.float64)


def rewards(objectives_NI: npt.NDArray[np.float32], weight_I: Floats) -> Floats:
    """[N, Q]: the reward of each exposure by group."""
    weighted_NI = objectives_NI * weight_I
    return np.stack([weighted_NI[:, 0], weighted_NI[:, 1:].sum(axis=1)], axis=1)

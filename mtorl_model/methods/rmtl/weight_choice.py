"""Whether RMTL's weights help: their losses on other users, compared with those of their controls.

Shapes: N exposures, T tasks.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.methods.rmtl.critics import SMALLEST
from mtorl_model.methods.rmtl.weights import WEIGHTS_TO_BEAT

Floats = npt.NDArray[np.float64]
RMTL = "critics"  # the weighting of the paper
UNWEIGHTED = "none"  # the network before the retraining
_QUANTILE = 1.96  # of a 95 % interval


class Interval(NamedTuple):
    """A 95 % interval of a difference of mean losses; it is below 0 if the first loss is lower."""

    low: float
    high: float


def beats_all(intervals_by_task: Mapping[str, Sequence[Interval]]) -> bool:
    """Whether all intervals of some task are below 0, and no interval of any task is above 0."""
    if any(interval.low > 0 for intervals in intervals_by_task.values() for interval in intervals):
        return False
    return any(intervals and all(i.high < 0 for i in intervals) for intervals in intervals_by_task.values())


def cross_entropies(p_NT: Floats, store: CandidateStore) -> Floats:
    """(N, T), finite for 0 and 1; 0 for a label that is not known yet."""
    p_NT = np.clip(p_NT, SMALLEST, 1 - SMALLEST)
    losses_NT = -np.log(np.where(store.labels_NT > 0, p_NT, 1 - store.maturity_NT * p_NT))
    return np.where(store.maturity_NT > 0, losses_NT, 0.0)


def weights_help(predicted: Mapping[str, Iterable[Floats]], valid: CandidateStore) -> tuple[bool, str]:
    """Whether RMTL's weights beat `constant`, `permuted` and no weights on these users, and a line with the intervals.

    predicted: by weighting, (N, T) of each training; their losses are averaged.
    """
    losses = {
        weighting: np.mean([cross_entropies(p_NT, valid) for p_NT in trainings], axis=0)
        for weighting, trainings in predicted.items()
    }
    differences = {name: losses[RMTL] - losses[name] for name in (*WEIGHTS_TO_BEAT, UNWEIGHTED)}
    intervals = {
        task: {name: user_interval(d_NT[:, t], valid.user_N) for name, d_NT in differences.items()}
        for t, task in enumerate(valid.task_names)
    }
    helps = beats_all({task: list(by_name.values()) for task, by_name in intervals.items()})
    figures = "; ".join(
        f"{task} minus {name} [{interval.low:+.4f}, {interval.high:+.4f}]"
        for task, by_name in intervals.items()
        for name, interval in by_name.items()
    )
    return helps, f"RMTL's weights are {'' if helps else 'not '}used: validation log loss {figures}"


def user_interval(value_N: Floats, user_N: npt.NDArray[np.int64]) -> Interval:
    """The interval of the mean, with a standard error that is clustered by user.

    sqrt(U / (U - 1) * sum over users of (sum of the user's deviations)^2) / N. Without two users it has no bounds.
    """
    _, user_N = np.unique(user_N, return_inverse=True)
    mean = float(value_N.mean()) if len(value_N) else 0.0
    deviation_U = np.bincount(user_N, weights=value_N - mean)
    users = len(deviation_U)
    if users < 2:
        return Interval(-np.inf, np.inf)
    error = float(np.sqrt(users / (users - 1) * np.sum(deviation_U**2)) / len(value_N))
    return Interval(mean - _QUANTILE * error, mean + _QUANTILE * error)

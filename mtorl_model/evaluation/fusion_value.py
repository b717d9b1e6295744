"""The reward of a fusion policy, estimated from logged explored actions (the table `fusion_exposures`).

NCIS of a deterministic policy mu under exploration of a known density p needs a kernel K of width h around mu(s):

    value = sum w r / sum w,  w = K(a - mu(s)) / p(a)

K is uniform, so the estimate is for the policy whose actions are varied by up to h in each dimension. In many
dimensions few explored actions are near mu(s); below FEWEST_EFFECTIVE effective ones there is no figure.

Shapes: K explored actions, D dimensions of an action.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.lake import Lake
from lakehouse.reading import read_tables
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate, quotient
from mtorl_model.methods.method import Method
from mtorl_model.methods.unified_rl.fusion import action_of
from schemas.dataset import Dataset
from schemas.tables import FUSION_EXPOSURES
from schemas.tables.candidates.fusion_exposures import REWARDS
from schemas.tables.candidates.fusion_weights import bias_column, power_column

Floats = npt.NDArray[np.float64]

FEWEST_EFFECTIVE = 200
KERNEL_SHARE = 0.5  # h, as a share of the half width of the box


class Explored(NamedTuple):
    """Logged actions. user_K: a number for each user. half_width_K: of the box that an action was drawn from.

    reward_K: minus the mean reward of the day, because the rewards of each day are raised by another constant.
    """

    user_K: npt.NDArray[np.int64]
    action_KD: Floats
    half_width_K: Floats
    propensity_K: Floats
    reward_K: Floats


def value_report(
    lake: Lake, dataset: Dataset, days: Sequence[str], model: Method, store: CandidateStore
) -> dict[str, Any]:
    """The block `value` of metrics.json: NCIS of the model on the explored actions of the store's users on these days.

    minus_explored: the reward of a ranking minus that of the explored actions, with its interval over users.
    """
    rows = _logged(lake, dataset, days)
    row_K = np.asarray(pc.fill_null(pc.index_in(rows.column("request_id"), pa.array(store.exposure_id_N)), -1))
    rows, row_K = rows.filter(pa.array(row_K >= 0)), row_K[row_K >= 0]
    if not len(rows):
        return _not_identified("no explored action of these users is logged with its propensity", 0, 0.0)
    request_rows, request_K = np.unique(row_K, return_inverse=True)
    requests = store.take(request_rows)
    # With a separate session for each row, a row is a request, whose state is that before it.
    fused = model.predict(replace(requests, session_N=np.arange(len(requests)))).fused
    target_KD = action_of(fused.power_XI, fused.bias_XI)[request_K]
    return ncis(_explored(rows, store.user_N[row_K], dataset), target_KD)


def ncis(log: Explored, target_KD: Floats) -> dict[str, Any]:
    """The block `value`. target_KD: the policy's action at each logged action's request."""
    width_K = KERNEL_SHARE * log.half_width_K
    is_near_K = (np.abs(log.action_KD - target_KD) <= width_K[:, None]).all(axis=1)
    weight_K = is_near_K / (log.propensity_K * (2.0 * width_K) ** log.action_KD.shape[1])
    effective = weight_K.sum() ** 2 / max(np.square(weight_K).sum(), np.finfo(np.float64).tiny)
    if effective < FEWEST_EFFECTIVE:
        return _not_identified(
            f"{effective:.0f} effective ones of the {len(weight_K):,} explored actions are near those of the policy; "
            f"{FEWEST_EFFECTIVE} are needed", len(weight_K), effective,
        )  # fmt: skip
    sums_RK = UserBootstrap(log.user_K).sums(np.column_stack([weight_K * log.reward_K, weight_K]))
    difference = estimate(quotient(sums_RK[:, 0], sums_RK[:, 1]))
    return {
        "identified": True, "why": "", "minus_explored": difference, "explored": len(weight_K),
        "effective": float(effective),
    }  # fmt: skip


def _not_identified(reason: str, explored: int, effective: float) -> dict[str, Any]:
    return {
        "identified": False,
        "why": reason,
        "minus_explored": None,
        "explored": explored,
        "effective": float(effective),
    }


def _logged(lake: Lake, dataset: Dataset, days: Sequence[str]) -> pa.Table:
    """The explored actions of these days, with the day; no rows if none is published."""
    names = [objective.name for objective in dataset.objectives]
    weights = [column(name) for column in (power_column, bias_column) for name in names]
    columns = ["request_id", *weights, "half_width", "propensity", *REWARDS, "day"]
    partitions = [lake[FUSION_EXPOSURES, dataset, day] for day in lake.days(FUSION_EXPOSURES, dataset) if day in days]
    tables = list(read_tables(partitions, columns))
    return pa.concat_tables(tables) if tables else pa.table({"request_id": pa.array([], pa.int64())})


def _explored(rows: pa.Table, user_K: npt.NDArray[np.int64], dataset: Dataset) -> Explored:
    names = [objective.name for objective in dataset.objectives]
    power_KI, bias_KI = (
        np.column_stack([rows.column(column(name)).to_numpy() for name in names])
        for column in (power_column, bias_column)
    )
    reward_K = np.sum([rows.column(name).to_numpy() for name in REWARDS], axis=0)
    _, day_K = np.unique(rows.column("day").to_numpy(zero_copy_only=False), return_inverse=True)
    mean_of_day = np.bincount(day_K, weights=reward_K) / np.bincount(day_K)
    return Explored(
        user_K, action_of(power_KI, bias_KI), rows.column("half_width").to_numpy(),
        rows.column("propensity").to_numpy(), reward_K - mean_of_day[day_K],
    )  # fmt: skip

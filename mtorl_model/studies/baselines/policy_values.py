"""The value of the channels of each method, where the log drew channels at random.

SNIPS and DR (evaluation/off_policy.py) of the recommended channels, next to the log's own and the best fixed channel.

Shapes: N labels, A channels, R replicates.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lakehouse.lake import Lake
from mtorl_model.data.propensities import read_propensities
from mtorl_model.evaluation.bootstrap import Floats, estimate
from mtorl_model.evaluation.off_policy import MAX_NEVER_DRAWN, DrawnLabels, Identified, identify
from mtorl_model.methods.common.recommendation import recommended_channel
from mtorl_model.methods.method import Prediction
from mtorl_model.studies.baselines.folds import HeldOut, Labels
from schemas.basis import IMITATION, VALUE
from schemas.tables import EXPOSURES, SEQUENCES

LOG, FIXED = "the log's own", "best fixed channel"


def policy_values(
    lake: Lake, dataset: str, folds: Sequence[Labels], trainings: Mapping[str, Sequence[Sequence[HeldOut]]]
) -> dict[str, Any]:
    """`identified`, `why`, and `rows`: a row for each policy and estimator, with its difference to the log's own.

    trainings: by method, for each seed its held-out predictions in each fold. Values are means over the seeds.
    """
    known = read_propensities(lake[EXPOSURES, dataset, day] for day in lake.days(SEQUENCES, dataset))
    if not len(known.exposure_D):
        return {"identified": False, "why": "the log has no propensities", "rows": []}
    action_N, exposure_N = (np.concatenate([getattr(f, name) for f in folds]) for name in ("action_N", "exposure_N"))
    position_N, is_drawn_N = known.find(exposure_N)
    is_drawn_N &= action_N >= 0
    position_N = position_N[is_drawn_N]
    drawn = DrawnLabels(
        action_N[is_drawn_N],
        np.concatenate([fold.gain_NG[:, 0] for fold in folds])[is_drawn_N],
        np.concatenate([fold.features() for fold in folds])[is_drawn_N],
        np.concatenate([fold.previous_N for fold in folds])[is_drawn_N],
        known.partition_D[position_N],
        known.probability_D[position_N],
        np.concatenate([fold.user_N for fold in folds])[is_drawn_N],
    )
    channels = next(iter(trainings.values()))[0][0].prediction.policy_XA
    assert channels is not None
    identified = identify(drawn, channels.shape[1])
    if not isinstance(identified, Identified):
        return {"identified": False, "why": identified["why"], "rows": []}
    log, one_hot_AA = identified.log, np.eye(channels.shape[1])

    def rows_of(policy: str, policies: Sequence[Floats]) -> list[dict[str, Any]]:
        """The rows of a policy; policies: of each seed, [N, A]."""
        if any(log.never_drawn_share(policy_NA) > MAX_NEVER_DRAWN for policy_NA in policies):
            return [{"policy": policy, "why": "it chooses channels that were never drawn"}]
        rows = []
        for estimator, value_of in (("snips", log.snips), ("dr", log.doubly_robust)):
            value_R = np.mean([value_of(policy_NA) for policy_NA in policies], axis=0)
            difference = estimate(value_R - log.logging_R)
            rows.append({"policy": policy, "estimator": estimator, **estimate(value_R), "minus_log": difference})
        return rows

    first = next(iter(trainings.values()))
    fixed_N = np.concatenate([np.full(len(f.action_N), h.best_fixed) for f, h in zip(folds, first[0], strict=True)])
    rows = [{"policy": LOG, "estimator": "mean", **estimate(log.logging_R)}]
    rows += rows_of(FIXED, [one_hot_AA[fixed_N[is_drawn_N]]])
    for name, seeds in trainings.items():
        for basis in (IMITATION, VALUE):
            if basis == VALUE and seeds[0][0].prediction.values_XAG is None:
                continue
            policies = [one_hot_AA[_channels(parts, basis)[is_drawn_N]] for parts in seeds]
            rows += rows_of(name if basis == IMITATION else f"{name}, by value", policies)
    return {
        "identified": True,
        "why": identified.reason,
        "labels": len(drawn.action_N),
        "users": log.users,
        "rows": rows,
    }


def _channels(parts: Sequence[HeldOut], basis: str) -> Any:
    predictions: list[Prediction] = [part.prediction for part in parts]
    return np.concatenate([recommended_channel(prediction, basis, 0) for prediction in predictions])

"""The block `ranking` of metrics.json: a fusion on unseen users, and simple rankings by the same predictions.

Shapes: N exposures, I objectives.
"""

from typing import Any

import numpy as np

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.evaluation.bootstrap import estimate
from mtorl_model.evaluation.fusion_metrics import Floats, mtf_gauc
from mtorl_model.methods.method import FusedScores, Method
from mtorl_model.methods.unified_rl.chain.reward import advice_on_weights
from mtorl_model.methods.unified_rl.fusion import log_scores


def simple_rankings(fused: FusedScores, objective_names: tuple[str, ...]) -> dict[str, Floats]:
    """The score of every exposure by name: equal weights of all objectives, and each objective alone."""
    equal_D = np.zeros(2 * len(objective_names))
    equal_N = log_scores(fused.objectives_XI[:, None, :], np.tile(equal_D, (len(fused.score_X), 1)))[:, 0]
    single = {f"{name} alone": p_N for name, p_N in zip(objective_names, fused.objectives_XI.T, strict=True)}
    return {"equal weights": equal_N, **single}


def ranking_report(model: Method, store: CandidateStore, fused: FusedScores) -> dict[str, Any]:
    """MTF-GAUC with its interval over users, and the paired differences to the simple rankings.

    advice: a line about objectives without a weight, or an empty one.
    """
    auc = mtf_gauc(store, fused.score_X, model.objective_weights)
    baselines = {}
    for name, score_N in simple_rankings(fused, store.objective_names).items():
        figure_R = mtf_gauc(store, score_N, model.objective_weights).figure_R
        baselines[name] = {**estimate(figure_R), "model_minus_it": estimate(auc.figure_R - figure_R)}
    return {
        "mtf_gauc": estimate(auc.figure_R), "users": auc.users, "users_with_equal_labels": auc.left_out,
        "weights": dict(zip(store.objective_names, model.objective_weights.tolist(), strict=True)),
        "advice": advice_on_weights(store.objective_names, model.objective_weights),
        "baselines": baselines,
    }  # fmt: skip

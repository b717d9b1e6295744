"""A model's predictions for given candidates, with the outcomes; and gradient boosting on the same inputs.

N exposures, G gains, F features, T tasks. The gain of index k is task k, or objective k of a fusion.
"""

from collections.abc import Container
from typing import TYPE_CHECKING

import numpy as np

from lakehouse.lake import Lake
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.candidates.encoding import CandidateEncoder
from mtorl_model.data.candidates.reading import read_candidates
from mtorl_model.data.delayed_feedback import LabelCutoff
from mtorl_model.evaluation.bootstrap import UserBootstrap
from mtorl_model.evaluation.label_predictions import LabelPredictions
from mtorl_model.evaluation.metrics import Figures, session_logloss
from mtorl_model.methods.common.label_rows import candidate_labels
from mtorl_model.methods.method import FUSION, Method, Prediction
from schemas.dataset import Dataset
from schemas.splits import TRAIN

if TYPE_CHECKING:
    from mtorl_model.methods.baselines.boosting import Boosting


def candidates_of(
    lake: Lake,
    dataset: Dataset,
    model: Method,
    days: list[str],
    cutoff: LabelCutoff | None = None,
    split: str | None = None,
    parts: Container[str] | None = None,
) -> CandidateStore:
    """The exposures of these days, encoded as the model reads them; cutoff, split and parts as in read_candidates."""
    return read_candidates(lake, dataset, days, CandidateEncoder.from_json(model.encoding), cutoff, split, parts)[0]


def predict_candidates(model: Method, store: CandidateStore, *, with_features: bool = False) -> LabelPredictions:
    """Predict every row. There is no channel to predict: action_N and previous_N are -1."""
    unknown_N = np.full(len(store), -1, np.int64)
    if FUSION in model.predicts:  # a ranking is measured by the outcomes that are known
        label_NG, maturity_NG = store.objectives_NI, np.ones(store.objectives_NI.shape)
    else:
        label_NG, maturity_NG = store.labels_NT, store.maturity_NT.astype(np.float64)
    return LabelPredictions(
        user_N=store.user_N, exposure_N=store.exposure_id_N, action_N=unknown_N, previous_N=unknown_N,
        gain_NG=label_NG.astype(np.float64), prediction=model.predict(store),
        feature_NF=store.features() if with_features else np.empty((len(store), 0), np.float32),
        maturity_NG=maturity_NG,
    )  # fmt: skip


def session_figures(prediction: Prediction, store: CandidateStore, gain: int, users: UserBootstrap) -> Figures:
    """s_logloss of a gain. prediction: of all rows of the store."""
    assert prediction.gains_XG is not None
    label_N = store.labels_NT[:, gain].astype(np.float64)
    return {"s_logloss": session_logloss(label_N, prediction.gains_XG[:, gain], store.session_N, users)}


def boosting_on_candidates(model: Method, store: CandidateStore, most_labels: int | None = None) -> "Boosting":
    """Gradient boosting, fitted on the training users of the store; on at most most_labels labels if it is given."""
    # Both import sklearn, which a usual day does not need.
    from mtorl_model.methods.baselines.boosting import Boosting, BoostingConfig
    from mtorl_model.methods.common.label_trees import CANDIDATE_TREES

    labels = candidate_labels(store.split_rows(TRAIN))
    config = BoostingConfig(CANDIDATE_TREES)
    if most_labels is not None:
        config = config.changed({"most_labels": most_labels})
    return Boosting(config, model.spec, model.initial_policy).fit_labels(labels)

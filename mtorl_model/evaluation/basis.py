"""Which basis a model's recommendations have: decided on validation users, before anything is published.

Where the log identifies the value of a policy, VALUE is used if its estimated value is at least that of the best
constant policy, otherwise CONSTANT. IMITATION is used instead of either if it is credibly better: the paired 95 %
interval of the difference is above 0. A basis that recommends channels which were never drawn is left out. If the best
basis is credibly below the log's own policy, it is IMITATION, too.
Differences are estimated doubly robust and pairwise, which cancels what the policies have in common (Kiyohara et al.,
Delta-OPE: off-policy estimation with pairs of policies, arXiv 2405.10024).

Where the log does not identify it, the basis is IMITATION.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lakehouse.lake import Lake
from mtorl_model.data.delayed_feedback import LabelCutoff
from mtorl_model.data.propensities import Propensities, read_propensities
from mtorl_model.data.windows.splits import split_windows
from mtorl_model.evaluation.bootstrap import estimate
from mtorl_model.evaluation.label_predictions import LabelPredictions, labels_of_each
from mtorl_model.evaluation.off_policy import MAX_NEVER_DRAWN, DrawnLabels, Identified, identify
from mtorl_model.methods.common.recommendation import possible_bases, recommended_channel
from mtorl_model.methods.method import Method, Prediction
from schemas.basis import CONSTANT, IMITATION, VALUE, BasisDecision
from schemas.dataset import Dataset
from schemas.splits import VALIDATION
from schemas.tables import EXPOSURES

MOST_DAYS = 30
_FULLY_KNOWN = 0.99  # maturity from which a label of the first gain counts


class Drawn(NamedTuple):
    """The labels whose channel was drawn at random, and the model's predictions for them."""

    labels: DrawnLabels
    prediction: Prediction


def drawn_labels(labels: LabelPredictions, known: Propensities) -> Drawn | None:
    """The labels of exposures with a known propensity; None without such an exposure."""
    if not len(known.exposure_D):
        return None
    position_N, is_drawn_N = known.find(labels.exposure_N)
    is_drawn_N &= (labels.maturity_NG[:, 0] > _FULLY_KNOWN) & (labels.action_N >= 0)
    chosen, position_N = labels.take(is_drawn_N), position_N[is_drawn_N]
    return Drawn(
        DrawnLabels(
            chosen.action_N, chosen.gain_NG[:, 0], chosen.feature_NF, chosen.previous_N,
            known.partition_D[position_N], known.probability_D[position_N], chosen.user_N,
        ),
        chosen.prediction,
    )  # fmt: skip


def basis_on_validation_users(
    lake: Lake, dataset: Dataset, model: Method, days: Sequence[str], cutoff: LabelCutoff | None = None
) -> BasisDecision:
    """decide_basis on the windows of the validation users of these days.

    Only the last MOST_DAYS of the days are read, because their labels stay in memory. cutoff: as in predict_labels.
    """
    days = days[-MOST_DAYS:]
    known = read_propensities(lake[EXPOSURES, dataset, day] for day in days)
    if not len(known.exposure_D):
        return decide_basis(model, None)  # nothing has to be predicted
    windows = split_windows(lake, dataset, days, VALIDATION, model.encoder(dataset), with_times=cutoff is not None)
    predicted = labels_of_each([model], windows, dataset, cutoff, with_features=True)
    return decide_basis(model, drawn_labels(predicted[0], known) if predicted else None)


def decide_basis(model: Method, drawn: Drawn | None) -> BasisDecision:
    """The rule in the module's docstring. drawn: labels of validation users; None if the log has no propensities."""
    possible = possible_bases(model)
    unidentified = IMITATION if IMITATION in possible else CONSTANT
    if drawn is None:
        return BasisDecision(unidentified, "the log has no propensities, so it does not identify a policy's value")
    actions = len(model.spec.channels)
    identified = identify(drawn.labels, actions)
    if not isinstance(identified, Identified):
        return BasisDecision(unidentified, identified["why"])
    log = identified.log
    one_hot_AA = np.eye(actions)
    policies = {
        basis: one_hot_AA[recommended_channel(drawn.prediction, basis, model.best_channel)] for basis in possible
    }
    policies = {basis: p_NA for basis, p_NA in policies.items() if log.never_drawn_share(p_NA) <= MAX_NEVER_DRAWN}
    if CONSTANT not in policies:
        return BasisDecision(unidentified, "the best channel for all was never drawn at random")
    possible = list(policies)
    value_R = {basis: log.doubly_robust(policy_NA) for basis, policy_NA in policies.items()}
    minus_constant = {basis: estimate(value_R[basis] - value_R[CONSTANT]) for basis in possible}
    best = VALUE if VALUE in possible and (minus_constant[VALUE]["value"] or 0.0) >= 0 else CONSTANT
    if IMITATION in possible and _is_credibly_above_0(estimate(value_R[IMITATION] - value_R[best])):
        best = IMITATION
    minus_log = estimate(value_R[best] - log.logging_R)
    if unidentified == IMITATION and best != IMITATION and minus_log["high"] is not None and minus_log["high"] < 0:
        reason = f"on validation users {best} is worth less than the log's own policy: {_in_brackets(minus_log)}"
        return BasisDecision(IMITATION, reason, minus_constant)
    best_text = _in_brackets(minus_constant[best])
    reason = f"on validation users its value minus the best constant's is {best_text}"
    if best == CONSTANT:
        alternatives = ", ".join(
            f"{basis} {_in_brackets(minus_constant[basis])}" for basis in possible if basis != CONSTANT
        )
        reason = f"on validation users no other basis is better than the best constant: {alternatives}"
    return BasisDecision(best, reason, minus_constant)


def basis_line(decision: BasisDecision) -> str:
    """The decision as a line for the terminal."""
    return f"channels are recommended by {decision.basis}: {decision.reason}"


def _is_credibly_above_0(difference: dict[str, Any]) -> bool:
    return difference["low"] is not None and difference["low"] > 0


def _in_brackets(difference: dict[str, Any]) -> str:
    interval = "" if difference["low"] is None else f" [{difference['low']:+.4f}, {difference['high']:+.4f}]"
    return f"{difference['value']:+.4f}{interval}"

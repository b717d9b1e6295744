"""The gate: the day's challenger becomes champion if it is not worse and its policy passes its audit.

For each head, the log losses of challenger and champion are compared on the validation users of the latest days, of a
large log on a part of them (panel.py). The head is not worse if the difference (challenger - champion) is at most 0. It
is also not worse if the difference is within the margin and the upper end of its 95 % interval over users is within
three margins. A limit of one margin for the upper end would refuse nearly every challenger until there are thousands of
validation users (docs/daily.md has figures). With too few users for an interval, only the difference counts.

Many days may each be a little worse. Therefore the challenger is also compared with the last full training that became
champion, and once a week the champion with trees fitted on the latest days, which does not change the decision
(full_training.py).

A refused challenger keeps its version and its alias (challenger-<day>); the table `promotions` has the reason. A day is
decided once for each champion: another run repeats the decision, unless the champion has changed since.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lakehouse.models.versions import Version
from lakehouse.rows import publish_if_missing, publish_model_rows
from mtorl_model.champion.export import export_for_daily_run
from mtorl_model.champion.full_training import against_fresh_fit, alert_lines, since_full_training
from mtorl_model.champion.gate_rule import GateConfig, Row, check_row, head_row
from mtorl_model.champion.registry import Registry, crown
from mtorl_model.data.delayed_feedback import FeedbackConfig
from mtorl_model.data.propensities import read_propensities
from mtorl_model.evaluation.comparison import as_lines, compare
from mtorl_model.evaluation.label_sources import source_of
from mtorl_model.evaluation.panel import panel
from mtorl_model.methods.method import FusedScores
from schemas.basis import BasisDecision
from schemas.dataset import Dataset
from schemas.days import day_plus
from schemas.errors import Busy
from schemas.splits import VALIDATION
from schemas.tables import CHANNEL_POLICIES, EXPOSURES
from schemas.tables.candidates.fusion_weights import LARGEST_BIAS, LARGEST_POWER, LEAST_SPREAD, SMALLEST_SUM
from schemas.tables.channel_policies import NEARLY_ALL
from schemas.tables.promotions import AGAINST_FRESH_FIT, BASIS, POLICY_AUDIT, PROMOTED, PROMOTIONS_TABLE, REFUSED

_SUM_TOLERANCE = 1e-6  # as in the audit of channel_policies
_ROUNDING = 1e-6  # of the weights of a fusion
_MOST_UNUSUAL = 0.01  # share of the exposures that may have unusual weights


def decide(registry: Registry, day: str, gate: GateConfig, feedback: FeedbackConfig) -> list[str]:
    """Promote or refuse the day's challenger; returns lines for the terminal. Raises UserError without a champion."""
    lake, dataset = registry.lake, registry.dataset
    seen = registry.decided()
    champion, challenger = registry.champion(), registry.challenger_of(day)
    if challenger is None:
        publish_if_missing(lake, PROMOTIONS_TABLE, dataset, day)
        return [f"no challenger of {day}: {champion.name}, trained through {champion.day}, stays champion"]
    registry.show_decisions()  # an earlier run may have been killed before it did
    if line := _earlier_decision(day, challenger, champion):
        return [line]
    rows, lines, compared_on, basis = _checks(registry, day, challenger, champion, gate, feedback)
    failed = _failed_checks(rows)
    shared = {"challenger": challenger.name, "champion": champion.name, "decision": REFUSED if failed else PROMOTED}
    rows = [{**shared, **row} for row in rows]
    alerts = alert_lines(rows, dataset)
    if (registry.decided(), registry.challenger_of(day)) != (seen, challenger):
        raise Busy(f"the champion, or the challenger of {day}, has changed during the comparison: run the gate again")
    # The rows first: a run that is killed in between decides again, and replaces them.
    inputs = {"challenger": challenger.name, "champion": champion.name, **compared_on}
    publish_model_rows(lake, PROMOTIONS_TABLE, dataset, day, registry.model, rows, inputs)
    decision = f"{REFUSED}: {'; '.join(failed)}" if failed else PROMOTED
    challenger = replace(challenger, decision=decision, compared_with=champion.name)
    next_champion = champion if failed else crown(challenger, seen)
    if basis is not None:
        next_champion = replace(next_champion, basis=basis)
    registry.decide([challenger, next_champion] if failed else [next_champion], seen=seen)
    if failed:
        stays = f"{challenger.name} is refused ({'; '.join(failed)}): {champion.name} stays champion"
        return [*lines, stays, *alerts]
    export_for_daily_run(registry)
    return [*lines, f"{challenger.name} is the champion of {dataset.name}, after {champion.name}", *alerts]


def _earlier_decision(day: str, challenger: Version, champion: Version) -> str | None:
    """A line for the terminal if the day is decided already; None if it is undecided, or the champion has changed."""
    if challenger.withdrawn:
        return f"{challenger.name} was rolled back by hand and is not promoted again; {champion.name} is the champion"
    was_promoted = challenger.decision == PROMOTED
    is_decided = champion.day >= day if was_promoted else challenger.compared_with == champion.name
    if is_decided or challenger.number == champion.number:
        decision = challenger.decision or "made champion without the gate"
        return f"{challenger.name}, challenger of {day}, was {decision}; {champion.name} is the champion"
    return None


def _checks(
    registry: Registry, day: str, challenger: Version, champion: Version, gate: GateConfig, feedback: FeedbackConfig
) -> tuple[list[Row], list[str], dict[str, str], BasisDecision | None]:  # fmt: skip
    """A row per check, without the columns that are alike; lines with the differences; fingerprints of the windows.

    The last is the basis of the recommendations of the next champion; None if the models are not compared.
    """
    if champion.day > day:
        reason = f"{champion.name} has been trained through {champion.day}, which is later"
        return [check_row(POLICY_AUDIT, reason)], [], {}, None
    # After a rollback, or after days learned in parallel, promotion would lose what the champion has learned.
    champion_before = registry.champion_before(day)
    if champion_before is None or challenger.parent != champion_before.name:
        stale = f"trained from {challenger.parent}, which is no longer the champion before {day}: run the day again"
        return [check_row(POLICY_AUDIT, stale)], [], {}, None
    lake, dataset = registry.lake, registry.dataset
    models = registry.load(champion), registry.load(challenger)
    source = source_of(models[0])
    if not source.can_compare(*models):
        return [check_row(POLICY_AUDIT, f"{champion.name} reads other features")], [], {}, None
    recommends = CHANNEL_POLICIES in models[1].publishes  # only then recommended channels need a basis
    # Delays are estimated on all days whose gains may still follow; the models are compared on the latest days only.
    for_basis = dataset.outcome_days + gate.days if recommends and _is_late(dataset) else 0
    first = day_plus(day, -max(dataset.outcome_days, for_basis, gate.days, gate.total_days))
    days = source.days(lake, dataset, models[0], first, day)
    cutoff = source.cutoff(lake, dataset, day, days, feedback)
    known = read_propensities(lake[EXPOSURES, dataset, d] for d in days[-gate.days :] if recommends)
    has_propensities = len(known.exposure_D) > 0
    latest = days[-gate.days :]
    # The basis is decided on the same predictions. Its labels with propensities are few, so all users are read for it.
    parts = None if has_propensities else panel(lake, dataset, models[0], latest, VALIDATION, gate.windows)
    compared = compare(lake, dataset, *models, latest, VALIDATION, cutoff, with_features=has_propensities, parts=parts)
    if compared is None:
        reason = "no validation user has a label on the latest days, so the models cannot be compared"
        return [check_row(POLICY_AUDIT, reason)], [], {}, None
    rows = [head_row(difference, gate) for difference in compared.heads]
    policy_NA, champion_policy_NA = (labels.prediction.policy_XA for labels in (compared.candidate, compared.base))
    if policy_NA is not None and champion_policy_NA is not None:
        findings = audit_policy(policy_NA, champion_policy_NA, gate.shift)
        rows.append(check_row(POLICY_AUDIT, "; ".join(findings), compared.heads[0]))
    if compared.candidate.prediction.fusion_XF is not None and compared.base.prediction.fusion_XF is not None:
        fusions = compared.candidate.prediction.fused, compared.base.prediction.fused
        findings = [*audit_fusion(*fusions, models[1].half_width), *models[1].self_check()]
        rows.append(check_row(POLICY_AUDIT, "; ".join(findings), compared.heads[0] if compared.heads else None))
    total_rows, total_lines = since_full_training(registry, day, champion, models[1], days, cutoff, gate)
    rows += total_rows
    next_champion = champion if _failed_checks(rows) else challenger
    fresh_rows, fresh_lines = against_fresh_fit(registry, day, next_champion, days, cutoff, gate)
    compared_on = source.fingerprints(lake, dataset, days)
    if has_propensities:
        with_exposures = [d for d in latest if lake[EXPOSURES, dataset, d].is_published]
        compared_on |= lake.fingerprints(EXPOSURES, dataset, with_exposures)
    lines = [*as_lines(compared.heads), *total_lines, *fresh_lines]
    if not recommends:
        return [*rows, *fresh_rows], lines, compared_on, None
    from mtorl_model.evaluation.basis import (  # imports sklearn: a second
        basis_line,
        basis_on_validation_users,
        decide_basis,
        drawn_labels,
    )

    is_refused = bool(_failed_checks(rows))
    model = models[0] if is_refused else models[1]
    if _is_late(dataset):  # the first gain of the latest days is not yet known, so older days are read
        known_days = [d for d in days if d <= day_plus(day, -dataset.outcome_days)][-gate.days :]
        basis = basis_on_validation_users(lake, dataset, model, known_days, cutoff)
    else:
        labels = compared.base if is_refused else compared.candidate
        labels = labels._replace(feature_NF=compared.base.feature_NF)
        basis = decide_basis(model, drawn_labels(labels, known))
    if not basis.minus_constant and champion.basis.minus_constant:  # the log of these days draws no channels at random
        basis = champion.basis if is_refused else replace(champion.basis, reason=f"as decided for {champion.name}")
    return [*rows, *fresh_rows, *_basis_rows(basis)], [basis_line(basis), *lines], compared_on, basis


def _basis_rows(decision: BasisDecision) -> list[Row]:
    """For each basis its value minus that of the best constant; these rows are not part of the decision."""
    return [
        check_row(f"{basis}{BASIS}", "")
        | {"value_difference": figures["value"], "value_low": figures["low"], "value_high": figures["high"]}
        for basis, figures in decision.minus_constant.items()
    ]


def _is_late(dataset: Dataset) -> bool:
    """Whether the first gain, in which recommendations are valued, becomes known late."""
    return dataset.gain_names[0] in dataset.late_gains


def _failed_checks(rows: Sequence[Row]) -> list[str]:
    """The reasons of the failed checks on which the decision depends."""
    return [str(r["reason"]) for r in rows if not r["passed"] and not str(r["check"]).endswith(AGAINST_FRESH_FIT)]


def audit_policy(
    policy_NA: npt.NDArray[np.float64], champion_policy_NA: npt.NDArray[np.float64], shift: float
) -> list[str]:
    """The faults of a policy, as text: by the rules of channel_policies, and by comparison with the champion's policy.

    Both policies are for the same N steps, [N, A]. shift: see GateConfig.
    """
    if not np.isfinite(policy_NA).all() or (policy_NA < 0).any():
        return ["a probability is not a number from 0 to 1"]
    if np.abs(policy_NA.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
        return ["probabilities do not sum to 1"]
    findings = []
    if _leader_share(policy_NA) >= NEARLY_ALL > _leader_share(champion_policy_NA):
        findings.append("one channel for nearly everyone is a collapsed policy")
    # Not the recommended channels: if two channels are nearly equal, a tiny change swaps the recommendation.
    moved = float(np.abs(policy_NA - champion_policy_NA).sum(axis=1).mean() / 2)
    if moved > shift:
        change = f"{moved:.0%} of the probability moves to other channels"
        findings.append(f"{change}, at most {shift:.0%} is allowed in a day")
    return findings


def audit_fusion(fused: FusedScores, champion: FusedScores, half_width: float) -> list[str]:
    """The faults of a challenger's fusion, as text. Both fusions are for the same N exposures.

    half_width: of the box around the champion's action, in powers; in biases it is a twentieth of it.
    """
    power_NI, champion_power_NI = fused.power_XI, champion.power_XI
    if not np.isfinite(power_NI).all() or (power_NI < 0).any() or (power_NI > LARGEST_POWER).any():
        return [f"a power is not a number from 0 to {LARGEST_POWER:g}"]
    findings = []
    if (power_NI.sum(axis=1) < SMALLEST_SUM).mean() > _MOST_UNUSUAL:
        findings.append("powers near 0 give the candidates of some users one score: a collapsed policy")
    weights_ND = np.concatenate([power_NI, fused.bias_XI / (LARGEST_BIAS / 2)], axis=1)
    champion_ND = np.concatenate([champion_power_NI, champion.bias_XI / (LARGEST_BIAS / 2)], axis=1)
    if np.ptp(weights_ND, axis=0).max() <= _ROUNDING and np.ptp(champion_ND, axis=0).max() > LEAST_SPREAD:
        findings.append("all exposures have one action where the champion's actions vary: a collapsed policy")
    is_outside_N = (np.abs(weights_ND - champion_ND) > half_width + _ROUNDING).any(axis=1)
    if is_outside_N.mean() > _MOST_UNUSUAL:
        findings.append(
            f"{is_outside_N.mean():.0%} of the exposures have weights outside the box of {half_width:g} around the "
            "champion's, in which alone it was trained"
        )
    return findings


def _leader_share(policy_NA: npt.NDArray[np.float64]) -> float:
    """The share of the steps whose recommended channel is the most frequent one."""
    return float(np.bincount(policy_NA.argmax(axis=1)).max() / len(policy_NA))

"""The gate: the day's challenger becomes champion if it is not worse and its policy passes its audit.

For each head, the log losses of challenger and champion are compared on the validation users of the latest days. The
head is not worse if the difference (challenger - champion) is at most 0. It is also not worse if the difference is
within the margin and the upper end of its 95 % interval over users is within three margins. A limit of one margin for
the upper end would refuse nearly every challenger until there are thousands of validation users (docs/daily.md has
figures). With too few users for an interval, only the difference counts.

A refused challenger keeps its version and its alias (challenger-<day>); the table `promotions` has the reason. A day is
decided once for each champion: another run repeats the decision, unless the champion has changed since.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lakehouse.rows import publish_rows
from mtorl_model.champion.export import export_for_daily_run
from mtorl_model.champion.registry import Registry, Version
from mtorl_model.data.delayed_feedback import FeedbackConfig, cutoff_at_end_of
from mtorl_model.data.split_windows import days_cut_with
from mtorl_model.evaluation.comparison import Difference, as_lines, compare
from schemas.days import day_plus
from schemas.errors import Busy
from schemas.json_config import JsonConfig
from schemas.splits import VALIDATION
from schemas.tables import PROMOTIONS, SEQUENCES
from schemas.tables.channel_policies import NEARLY_ALL
from schemas.tables.promotions import POLICY_AUDIT, PROMOTED, PROMOTIONS_TABLE, REFUSED

_SUM_TOLERANCE = 1e-6  # as in the audit of channel_policies


@dataclass(frozen=True, slots=True)
class GateConfig(JsonConfig):
    """When a challenger may become champion."""

    # Share of the champion's log loss by which a head may be worse: about the effect of one day of fine-tuning. An
    # unchanged challenger passes, and a clearly worse one does not.
    margin: float = 0.01
    # A head that is worse within the margin passes if the upper end of its interval is at most this many margins.
    worst: float = 3.0
    days: int = 14  # number of latest days whose validation users are used
    shift: float = 0.1  # share of the probability that a policy may move to other channels, mean over the steps


def decide(registry: Registry, day: str, gate: GateConfig, feedback: FeedbackConfig) -> list[str]:
    """Promote or refuse the day's challenger; returns lines for the terminal. Raises UserError without a champion."""
    lake, dataset = registry.lake, registry.dataset
    with registry.lock():
        champion, challenger = registry.champion(), registry.challenger_of(day)
        if challenger is None:
            if lake[PROMOTIONS, dataset, day].manifest is None:
                publish_rows(lake, PROMOTIONS_TABLE, dataset, day, [], {})
            return [f"no challenger of {day}: {champion.name}, trained through {champion.day}, stays champion"]
        if line := _earlier_decision(registry, day, challenger, champion):
            return [line]
    rows, lines, compared_on = _checks(registry, day, challenger, champion, gate, feedback)  # slow, so without the lock
    failed = [str(row["reason"]) for row in rows if not row["passed"]]
    for row in rows:
        row |= {"challenger": challenger.name, "champion": champion.name, "decision": REFUSED if failed else PROMOTED}
    with registry.lock():
        if (registry.champion(), registry.challenger_of(day)) != (champion, challenger):
            raise Busy(
                f"the champion, or the challenger of {day}, has changed during the comparison: run the gate again"
            )
        inputs = {"challenger": challenger.name, "champion": champion.name, **compared_on}
        publish_rows(lake, PROMOTIONS_TABLE, dataset, day, rows, inputs)
        if failed:
            registry.set_decision(challenger, f"{REFUSED}: {'; '.join(failed)}", compared_with=champion.name)
            return [*lines, f"{challenger.name} is refused ({'; '.join(failed)}): {champion.name} stays champion"]
        registry.make_champion(challenger)
        registry.set_decision(challenger, PROMOTED, compared_with=champion.name)
        export_for_daily_run(registry)
        return [*lines, f"{challenger.name} is the champion of {dataset.name}, after {champion.name}"]


def _earlier_decision(registry: Registry, day: str, challenger: Version, champion: Version) -> str | None:
    """A line for the terminal if the day is decided already; None if it is undecided, or the champion has changed."""
    if challenger.withdrawn:
        return f"{challenger.name} was rolled back by hand and is not promoted again; {champion.name} is the champion"
    is_champion = challenger.number == champion.number
    if is_champion and challenger.decision != PROMOTED:  # an earlier run was killed before it recorded the promotion
        registry.set_decision(challenger, PROMOTED, compared_with=challenger.parent)
        return f"{challenger.name} is the champion of {registry.dataset.name}"
    if challenger.decision == PROMOTED:
        is_decided = is_champion or champion.day >= day
    else:
        is_decided = challenger.compared_with == champion.name
    if is_decided:
        return f"{challenger.name}, challenger of {day}, was {challenger.decision}; {champion.name} is the champion"
    return None


def _checks(
    registry: Registry, day: str, challenger: Version, champion: Version, gate: GateConfig, feedback: FeedbackConfig
) -> tuple[list[dict[str, object]], list[str], dict[str, str]]:  # fmt: skip
    """A row per check, without the shared columns; lines with the differences; fingerprints of the windows used."""
    if champion.day > day:
        reason = f"{champion.name} has been trained through {champion.day}, which is later"
        return [_row(POLICY_AUDIT, reason)], [], {}
    # After a rollback, or after days learned in parallel, promotion would lose what the champion has learned.
    champion_before = registry.champion_before(day)
    if champion_before is None or challenger.parent != champion_before.name:
        stale = f"trained from {challenger.parent}, which is no longer the champion before {day}: run the day again"
        return [_row(POLICY_AUDIT, stale)], [], {}
    lake, dataset = registry.lake, registry.dataset
    models = registry.load(champion), registry.load(challenger)
    if models[0].spec.version != models[1].spec.version:
        return [_row(POLICY_AUDIT, f"{champion.name} reads other features")], [], {}
    # Delays are estimated on all days whose gains may still follow; the models are compared on the latest days only.
    first = day_plus(day, -max(dataset.outcome_days, gate.days))
    days = days_cut_with(lake, dataset, models[0].spec.version, first, day)
    cutoff = cutoff_at_end_of(day, lake, dataset, days, feedback)
    compared = compare(lake, dataset, *models, days[-gate.days :], VALIDATION, cutoff)
    if compared is None:
        reason = "no validation user has a label on the latest days, so the models cannot be compared"
        return [_row(POLICY_AUDIT, reason)], [], {}
    rows = [_head_row(difference, gate) for difference in compared.heads]
    policy_NA, champion_policy_NA = (labels.prediction.policy_XA for labels in (compared.candidate, compared.base))
    if policy_NA is not None and champion_policy_NA is not None:
        findings = audit_policy(policy_NA, champion_policy_NA, gate.shift)
        rows.append(_row(POLICY_AUDIT, "; ".join(findings), compared.heads[0]))
    compared_on = lake.fingerprints(SEQUENCES, dataset, days)
    return rows, as_lines(compared.heads), compared_on


def _head_row(difference: Difference, gate: GateConfig) -> dict[str, object]:
    allowed = gate.margin * difference.base_loss
    reason = ""
    if difference.value > allowed:
        reason = f"{difference.head} is worse by {difference.value:+.5f}; at most {allowed:.5f} is allowed"
    elif not is_not_worse(difference, gate):
        most = gate.worst * allowed
        reason = f"{difference.head} may be worse by {difference.high:+.5f}; at most {most:.5f} is allowed"
    return _row(difference.head, reason, difference) | {
        "champion_logloss": difference.base_loss, "challenger_logloss": difference.candidate_loss,
        "difference": difference.value, "low": difference.low, "high": difference.high, "margin": allowed,
    }  # fmt: skip


def is_not_worse(difference: Difference, gate: GateConfig) -> bool:
    """Whether the challenger's head is not worse, by the rule in the module's docstring."""
    allowed = gate.margin * difference.base_loss
    is_high_allowed = difference.high is None or difference.high <= gate.worst * allowed
    return difference.value <= 0 or (difference.value <= allowed and is_high_allowed)


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


def _leader_share(policy_NA: npt.NDArray[np.float64]) -> float:
    """The share of the steps whose recommended channel is the most frequent one."""
    return float(np.bincount(policy_NA.argmax(axis=1)).max() / len(policy_NA))


def _row(check: str, reason: str, difference: Difference | None = None) -> dict[str, object]:
    """A check's row; an empty reason means that it passed."""
    users, labels = (difference.users, difference.labels) if difference else (0, 0)
    return {"check": check, "passed": not reason, "reason": reason, "users": users, "labels": labels}

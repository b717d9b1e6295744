"""The gate: the day's challenger becomes champion if it is not worse and its policy passes its audit.

A head is not worse if the paired difference of the log losses (challenger - champion), on the validation users of the
latest days, is at most 0; or if it is within the margin, and the upper end of its 95 % interval over users within three
margins. A limit of one margin for the upper end would refuse nearly every challenger until there are thousands of
validation users (figures: docs/daily.md). With too few users for an interval only the difference counts.

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

_SUM_TOLERANCE = 1e-6  # as the audit of channel_policies


@dataclass(frozen=True, slots=True)
class GateConfig(JsonConfig):
    """When a challenger may become champion."""

    # Share of the champion's log loss by which a head may be worse. It is about the effect of one day of fine-tuning:
    # a challenger without any change passes, and one that has become clearly worse does not.
    margin: float = 0.01
    worst: float = 3.0  # margins that the upper end of the interval may reach where a head is worse within the margin
    days: int = 14  # latest days, whose validation users are used
    shift: float = 0.1  # share of a policy's probability that may move to other channels, mean over the steps


def decide(registry: Registry, day: str, gate: GateConfig, feedback: FeedbackConfig) -> list[str]:
    """Promote or refuse the day's challenger; returns lines for the terminal. Raises UserError without a champion."""
    lake, dataset = registry.lake, registry.dataset
    with registry.lock():
        now, challenger = registry.champion(), registry.challenger_of(day)
        if challenger is None:
            if lake[PROMOTIONS, dataset, day].manifest is None:
                publish_rows(lake, PROMOTIONS_TABLE, dataset, day, [], {})
            return [f"no challenger of {day}: {now.name}, trained through {now.day}, stays champion"]
        if line := _settled(registry, day, challenger, now):
            return [line]
    rows, lines, compared_on = _checks(registry, day, challenger, now, gate, feedback)  # without the lock: slow
    failed = [str(row["reason"]) for row in rows if not row["passed"]]
    for row in rows:
        row |= {"challenger": challenger.name, "champion": now.name, "decision": REFUSED if failed else PROMOTED}
    with registry.lock():
        if (registry.champion(), registry.challenger_of(day)) != (now, challenger):
            raise Busy(
                f"the champion, or the challenger of {day}, has changed during the comparison: run the gate again"
            )
        inputs = {"challenger": challenger.name, "champion": now.name, **compared_on}
        publish_rows(lake, PROMOTIONS_TABLE, dataset, day, rows, inputs)
        if failed:
            registry.set_decision(challenger, f"{REFUSED}: {'; '.join(failed)}", against=now.name)
            return [*lines, f"{challenger.name} is refused ({'; '.join(failed)}): {now.name} stays champion"]
        registry.make_champion(challenger)
        registry.set_decision(challenger, PROMOTED, against=now.name)
        export_for_daily_run(registry)
        return [*lines, f"{challenger.name} is the champion of {dataset.name}, after {now.name}"]


def _settled(registry: Registry, day: str, challenger: Version, now: Version) -> str | None:
    """A line for the terminal if the day is decided already; None if not, or if the champion has changed since."""
    if challenger.withdrawn:
        return f"{challenger.name} was rolled back by hand and is not promoted again; {now.name} is the champion"
    is_champion = challenger.number == now.number
    if is_champion and challenger.decision != PROMOTED:  # killed after the promotion, before it was written down
        registry.set_decision(challenger, PROMOTED, against=challenger.parent)
        return f"{challenger.name} is the champion of {registry.dataset.name}"
    decided = is_champion or now.day >= day if challenger.decision == PROMOTED else challenger.against == now.name
    if decided:
        return f"{challenger.name}, challenger of {day}, was {challenger.decision}; {now.name} is the champion"
    return None


def _checks(
    registry: Registry, day: str, challenger: Version, now: Version, gate: GateConfig, feedback: FeedbackConfig
) -> tuple[list[dict[str, object]], list[str], dict[str, str]]:  # fmt: skip
    """A row per check, without the shared columns; lines with the differences; fingerprints of the windows used."""
    if now.day > day:
        return [_row(POLICY_AUDIT, f"{now.name} has been trained through {now.day}, which is later")], [], {}
    # After a rollback, or after days learned in parallel, promotion would lose what the champion has learned.
    before = registry.champion_before(day)
    if before is None or challenger.parent != before.name:
        stale = f"trained from {challenger.parent}, which is no longer the champion before {day}: run the day again"
        return [_row(POLICY_AUDIT, stale)], [], {}
    lake, dataset = registry.lake, registry.dataset
    models = registry.load(now), registry.load(challenger)
    if models[0].spec.version != models[1].spec.version:
        return [_row(POLICY_AUDIT, f"{now.name} reads other features")], [], {}
    # Delays are estimated on all days with gains that may still come; the models are compared on the latest.
    first = day_plus(day, -max(dataset.outcome_days, gate.days))
    days = days_cut_with(lake, dataset, models[0].spec.version, first, day)
    cutoff = cutoff_at_end_of(day, lake, dataset, days, feedback)
    compared = compare(lake, dataset, *models, days[-gate.days :], VALIDATION, cutoff)
    if compared is None:
        return [_row(POLICY_AUDIT, "no validation user has a label on the latest days: nothing to judge by")], [], {}
    rows = [_head_row(difference, gate) for difference in compared.heads]
    policy_NA, champion_policy_NA = (labels.prediction.policy_XA for labels in (compared.other, compared.one))
    if policy_NA is not None and champion_policy_NA is not None:
        findings = audit_policy(policy_NA, champion_policy_NA, gate.shift)
        rows.append(_row(POLICY_AUDIT, "; ".join(findings), compared.heads[0]))
    compared_on = lake.fingerprints(SEQUENCES, dataset, days)
    return rows, as_lines(compared.heads), compared_on


def _head_row(difference: Difference, gate: GateConfig) -> dict[str, object]:
    borne = gate.margin * difference.one
    reason = ""
    if difference.value > borne:
        reason = f"{difference.head} is worse by {difference.value:+.5f}, where {borne:.5f} is borne"
    elif not is_not_worse(difference, gate):
        reason = f"{difference.head} may be worse by {difference.high:+.5f}, where {gate.worst * borne:.5f} is borne"
    return _row(difference.head, reason, difference) | {
        "champion_logloss": difference.one, "challenger_logloss": difference.other, "difference": difference.value,
        "low": difference.low, "high": difference.high, "margin": borne,
    }  # fmt: skip


def is_not_worse(difference: Difference, gate: GateConfig) -> bool:
    """Whether the head is not worse, by the rule above."""
    borne = gate.margin * difference.one
    sure = difference.high is None or difference.high <= gate.worst * borne
    return difference.value <= 0 or (difference.value <= borne and sure)


def audit_policy(
    policy_NA: npt.NDArray[np.float64], champion_policy_NA: npt.NDArray[np.float64], shift: float
) -> list[str]:
    """Faults of a policy by the rules of channel_policies, and in comparison with the champion's at the same steps."""
    if not np.isfinite(policy_NA).all() or (policy_NA < 0).any():
        return ["a probability is no number from 0 to 1"]
    if np.abs(policy_NA.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
        return ["probabilities do not sum to 1"]
    findings = []
    if _leader_share(policy_NA) >= NEARLY_ALL > _leader_share(champion_policy_NA):
        findings.append("one channel for nearly everyone is a collapsed policy")
    # Probabilities, not recommended channels: of two nearly equal channels either may be the best.
    moved = float(np.abs(policy_NA - champion_policy_NA).sum(axis=1).mean() / 2)
    if moved > shift:
        findings.append(f"{moved:.0%} of the probability moves to other channels, {shift:.0%} is borne in a day")
    return findings


def _leader_share(policy_NA: npt.NDArray[np.float64]) -> float:
    """The share of steps with the most frequent recommendation."""
    return float(np.bincount(policy_NA.argmax(axis=1)).max() / len(policy_NA))


def _row(check: str, reason: str, difference: Difference | None = None) -> dict[str, object]:
    users, labels = (difference.users, difference.labels) if difference else (0, 0)
    return {"check": check, "passed": not reason, "reason": reason, "users": users, "labels": labels}

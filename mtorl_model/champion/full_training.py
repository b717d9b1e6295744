"""The checks that keep small losses of many days from adding up, and that ask for a full training.

since_full_training: the challenger is compared with the last full training that became champion. A daily gate alone
lets 60 challengers pass that are each .9 % worse than the one before, which makes 1.71 times the loss.
against_fresh_fit: the champion is compared with trees fitted on the latest days (fresh_fit.py).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from lakehouse.models.versions import Version
from mtorl_model.champion.fresh_fit import compare_with_fresh_fit
from mtorl_model.champion.gate_rule import GateConfig, Row, check_row, head_row, losses
from mtorl_model.champion.registry import Registry
from mtorl_model.data.delayed_feedback import LabelCutoff
from mtorl_model.evaluation.comparison import Difference, as_lines, compare
from mtorl_model.evaluation.label_sources import source_of
from mtorl_model.evaluation.panel import panel
from mtorl_model.methods.method import FUSION, Method
from schemas.dataset import Dataset
from schemas.days import day_plus
from schemas.errors import ALERT
from schemas.splits import VALIDATION
from schemas.tables.promotions import AGAINST_FRESH_FIT, FRESH_FIT, FULL_TRAINING, SINCE_FULL_TRAINING


def since_full_training(
    registry: Registry,
    day: str,
    champion: Version,
    challenger: Method,
    days: Sequence[str],
    cutoff: LabelCutoff,
    gate: GateConfig,
) -> tuple[list[Row], list[str]]:
    """A row per head that compares the challenger with the last full training, or a row that explains why it cannot be.

    Without rows if the champion is the last full training: then the daily comparison is the same.
    """
    lake, dataset = registry.lake, registry.dataset
    full = registry.last_full_training(day)
    if full is None:
        return _not_compared("", f"no champion was fully trained on days up to {day}")
    if full.number == champion.number:
        return [], []
    base = registry.load(full)
    if not source_of(challenger).can_compare(base, challenger):
        return _not_compared(full.name, f"{full.name}, the last full training, reads other features")
    days = days[-gate.total_days :]
    parts = panel(lake, dataset, challenger, days, VALIDATION, gate.total_windows)
    compared = compare(lake, dataset, base, challenger, days, VALIDATION, cutoff, parts=parts)
    if compared is None:
        return _not_compared(full.name, "no validation user has a label on the days to compare on")
    total, reference = replace(gate, margin=gate.total_margin), f"{full.name}, the last full training"
    rows: list[Row] = [
        {**head_row(d, total, reference), "check": d.head + SINCE_FULL_TRAINING, "champion": full.name}
        for d in compared.heads
    ]
    return rows, [f"compared with {full.name}, the last full training:", *as_lines(compared.heads)]


def _not_compared(full_training: str, reason: str) -> tuple[list[Row], list[str]]:
    """A row that passes, and a line, so that a missing comparison is seen."""
    row = {"check": FULL_TRAINING, "passed": True, "reason": f"not compared: {reason}", "users": 0, "labels": 0}
    return [{**row, "champion": full_training}], [f"not compared with the last full training: {reason}"]


def against_fresh_fit(
    registry: Registry, day: str, version: Version, days: Sequence[str], cutoff: LabelCutoff, gate: GateConfig
) -> tuple[list[Row], list[str]]:
    """On the weekday for it, a row per head that compares a version with trees; see GateConfig.

    Without rows in the week after a full training.
    """
    full = registry.last_full_training(day)
    if date.fromisoformat(day).isoweekday() != gate.fresh_fit_weekday or (full and full.day > day_plus(day, -7)):
        return [], []
    lake, dataset = registry.lake, registry.dataset
    model = registry.load(version)
    if FUSION in model.predicts:  # trees on a candidate's inputs rank nothing
        return [], []
    days = days[-gate.total_days :]
    parts = panel(lake, dataset, model, days, VALIDATION, gate.total_windows)
    heads = compare_with_fresh_fit(
        lake, dataset, model, days, cutoff, gate.fresh_fit_windows, gate.fresh_fit_labels, parts
    )
    rows: list[Row] = [
        {**_fresh_fit_row(d, version.name, gate), "challenger": version.name, "champion": FRESH_FIT} for d in heads
    ]
    return rows, [f"{version.name} compared with trees fitted on the latest days:", *as_lines(heads)]


def _fresh_fit_row(difference: Difference, version: str, gate: GateConfig) -> Row:
    allowed = gate.fresh_fit_margin * difference.base_loss
    is_behind = difference.value > allowed and difference.low is not None and difference.low > 0
    reason = (
        f"{difference.head} of {version} is worse than trees fitted on the latest days by {difference.value:+.5f}; "
        f"at most {allowed:.5f} is allowed"
    )
    return check_row(difference.head + AGAINST_FRESH_FIT, reason if is_behind else "", difference) | losses(
        difference, allowed
    )


def alert_lines(rows: Sequence[Row], dataset: Dataset) -> list[str]:
    """A line that asks for a full training, if a comparison with a fresh fit has failed."""
    reasons = [str(r["reason"]) for r in rows if not r["passed"] and str(r["check"]).endswith(AGAINST_FRESH_FIT)]
    return [f"{ALERT}{'; '.join(reasons)}: start a full training (mtorl_history_{dataset.name})"] if reasons else []

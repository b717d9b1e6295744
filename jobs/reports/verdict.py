"""The verdict on a day: how far its run has come, and everything that its audits and its drift found wrong."""

from dataclasses import dataclass

from jobs.quality.audit_results import FAIL, PASS, WARN, failed_days
from jobs.reports.content import Cell
from jobs.reports.day_view import DayView
from lakehouse.published_days import unused_tables
from schemas.contract import Severity
from schemas.days import UNDATED
from schemas.tables import EXPOSURES, JOURNEYS, QUARANTINE
from schemas.tables.registry import TABLES

PART = "part"  # neither good nor bad: the day is incomplete, or was never scored


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with the day. observation: the measured values in words. source: the audit or the drift."""

    severity: str
    sentence: str
    observation: str
    why: str
    rule: str
    source: Cell


@dataclass(frozen=True, slots=True)
class Verdict:
    """kind: pass, warn, fail or part. headline: in a few words. details: further sentences below it."""

    kind: str
    headline: str
    details: tuple[str, ...]
    findings: tuple[Finding, ...]


def verdict_of(view: DayView) -> Verdict:
    """The verdict, with its findings: critical ones first, then warnings."""
    findings = sorted([*_audit_findings(view), *_drift_findings(view)], key=lambda f: f.severity)
    critical = [f for f in findings if f.severity == Severity.CRITICAL.value]
    warnings = len(findings) - len(critical)
    unaudited = [table for table in view.manifests if not view.is_audited(table)]
    kind, headline, details = _kind(view, critical, warnings, unaudited)
    if warnings and kind != FAIL:
        details.append(f"{warnings} {'warning does' if warnings == 1 else 'warnings do'} not stop the day.")
    if unaudited and headline != _not_audited(unaudited):
        details.append(f"{_not_audited(unaudited)}.")
    if view.drift is None and any(map(view.has, _tables_of_scoring(view))):
        details.append("Drift was not measured, so it is unknown how much the day differs from the training data.")
    return Verdict(kind, headline, tuple(details), tuple(findings))


def _kind(view: DayView, critical: list[Finding], warnings: int, unaudited: list[str]) -> tuple[str, str, list[str]]:
    """The kind of the verdict, its headline, and the sentences that explain it. The worst comes first."""
    run_again = f"make backfill DATASET={view.dataset.name} FROM={view.day} TO={view.day}"
    failed = [table for table in (*TABLES, UNDATED) if _has_failed(view, table)]
    scores = _tables_of_scoring(view)
    missing = [table for table in (EXPOSURES, JOURNEYS, *scores) if not view.has(table)]
    if failed:
        return FAIL, f"Stopped at {failed[0]}. {critical[0].sentence}", [
            "No job builds on it: later tables are missing or come from an earlier run. Correct the raw rows or the "
            f"job, then run the day again: {run_again}."
        ]  # fmt: skip
    if critical:
        return FAIL, f"Check this day before you use it: {critical[0].sentence}", []
    if not view.has(scores[0]):
        return PART, f"Not scored: this day has no {scores[0].replace('_', ' ')} yet", [
            *_blocking_days(view),
            "The days of a model's first training are never scored. Every other day is scored by its daily and nightly "
            "runs.",
        ]  # fmt: skip
    if missing:
        return PART, f"Not complete: this day has no {missing[0]} ({TABLES[missing[0]].summary})", []
    if unaudited:
        return PART, _not_audited(unaudited), [
            f"No rule was evaluated on it, so its quality is unknown. Run the day again: {run_again}."
        ]  # fmt: skip
    if warnings:
        return WARN, "The day is good to use, with warnings", []
    return PASS, "All is well: every rule holds", []


def _tables_of_scoring(view: DayView) -> list[str]:
    """The tables that scoring publishes every night in this lake."""
    unused = unused_tables(view.lake, view.dataset)
    return [name for name, table in TABLES.items() if table.scores and not table.optional and name not in unused]


def _not_audited(tables: list[str]) -> str:
    return f"Not audited: the current content of {', '.join(tables)}"


def _has_failed(view: DayView, table: str) -> bool:
    """Whether the current content of a table failed its audit critically. UNDATED: quarantined rows without a day."""
    undated = view.lake[QUARANTINE, view.dataset, UNDATED]
    manifest = undated.manifest if table == UNDATED else view.manifests.get(table)
    return manifest is not None and view.lake.failed_audit(manifest) is not None


def _blocking_days(view: DayView) -> list[str]:
    """Earlier days whose exposures failed: journeys need the exposures of all days."""
    days = [day for day in failed_days(view.lake, EXPOSURES, view.dataset) if day < view.day]
    return [f"An earlier day blocks this one: the exposures of {', '.join(days)} failed their audit."] if days else []


def _audit_findings(view: DayView) -> list[Finding]:
    """The failed rules of the current content of all tables, in the order in which a day is built."""
    audits = [audit for table, audit in view.audits.items() if view.has(table) and view.is_audited(table)]
    if view.undated_audit and view.undated_audit.failed and _has_failed(view, UNDATED):
        audits.append(view.undated_audit)
    findings = []
    for audit in audits:
        name = f"{audit.table} {audit.ds}"
        source = view.audit_link(audit.table, name) if audit.ds == view.day else Cell(name)
        findings += [
            Finding(o.severity, f"Broken rule: {o.sentence}", audit.describe(o), o.why, o.name, source)
            for o in audit.failed
        ]
    return findings


def _drift_findings(view: DayView) -> list[Finding]:
    return [
        Finding(f.severity, f.sentence, f"{f.value:.4g}, the limit is {f.limit:.4g} ({f.limit_from})", f.why, f.name,
                Cell("drift" + (f" against the {f.against}" if f.against else ""), "#drift"))
        for f in (view.drift.exceeded if view.drift else ())
    ]  # fmt: skip

"""The data docs: a static site made from the stored audit results, with a page per audited partition and an index."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from jobs.quality.audit_results import (
    ABOUT_COLUMNS,
    ABOUT_PARTITION,
    ABOUT_ROWS,
    FAIL,
    FAILED,
    HOLDS,
    NOT_EVALUATED,
    PASS,
    WARN,
    Audit,
    stored_audits,
)
from jobs.reports.content import SEVERITY_BADGES
from jobs.reports.rendering import render, write_index
from lakehouse.lake import Lake
from lakehouse.storage.files import write_whole
from schemas.contract import Severity
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.tables.registry import TABLES

INDEX = "index.html"
_VERDICTS = {
    PASS: "All rules hold",
    WARN: "Only warnings: the day continues",
    FAIL: "Failed: no job builds on it",
}
_TITLES = {ABOUT_ROWS: "Rules of the table", ABOUT_COLUMNS: "Columns", ABOUT_PARTITION: "The partition as a whole"}
_COUNTED = {
    (FAILED, Severity.CRITICAL.value): "failed as critical",
    (FAILED, Severity.WARNING.value): "failed as warnings",
    (HOLDS, ""): "hold",
    (NOT_EVALUATED, ""): "not evaluated",
}


def publish_pages(lake: Lake, dataset: Dataset, audits: Iterable[Audit]) -> Path:
    """Write the pages of these audits, and the index over all stored ones; returns the path of the index."""
    folder = lake.docs(dataset)
    for audit in audits:
        write_whole(folder / audit.table / f"{audit.ds}.html", audit_page(audit))
    write_index(folder / INDEX, lake.audits(dataset), lambda: index_page(dataset, stored_audits(lake, dataset)))
    return folder / INDEX


def audit_page(audit: Audit) -> str:
    """The page of one partition: the verdict, what failed and why it matters, then every rule."""
    groups = [(title, [o for o in audit.outcomes if o.about == scope]) for scope, title in _TITLES.items()]
    counts = Counter((o.status, o.severity if o.status == FAILED else "") for o in audit.outcomes)
    summary = ", ".join(f"{counts[kind]} {name}" for kind, name in _COUNTED.items() if counts[kind])
    shares = {o: f"{o.rows / audit.rows:.2%}" for o in audit.failed if o.rows and audit.rows}
    return render(
        "audit_page.html", audit=audit, shares=shares, groups=groups, summary=summary, verdicts=_VERDICTS,
        badges=SEVERITY_BADGES,
    )  # fmt: skip


def index_page(dataset: Dataset, audits: list[Audit]) -> str:
    """Days by tables, the newest day first; rows without a day come last."""
    by_place = {(audit.table, audit.ds): audit for audit in audits}
    days = sorted({audit.ds for audit in audits}, key=lambda day: "" if day == UNDATED else day, reverse=True)
    counts = Counter(audit.verdict for audit in audits)
    verdict = next((v for v in (FAIL, WARN) if counts[v]), PASS)
    headline = {
        FAIL: f"{counts[FAIL]} failed, {counts[WARN]} with warnings",
        WARN: f"{counts[WARN]} with warnings, none failed",
        PASS: "All rules hold everywhere",
    }[verdict]
    return render(
        "audit_index.html", dataset=dataset.name, audits=audits, by_place=by_place, days=days, verdict=verdict,
        headline=headline, tables=[name for name in TABLES if any(audit.table == name for audit in audits)],
    )  # fmt: skip

"""The data docs: a small static site made from the stored audit results, which opens without a network.

    python -m jobs.data_docs --dataset kuairand --lake lake

rebuilds LAKE/data_docs/dataset=<dataset>/ as a whole: index.html, and a page for each table and day. An audit
rewrites only the pages it touched, and the index.
"""

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
    NOT_ASKED,
    PASS,
    WARN,
    Audit,
    stored_audits,
)
from jobs.reports.html_pages import one_at_a_time, render
from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of
from lakehouse.lake import Lake
from lakehouse.staging import write_to_lake
from schemas.contract import Severity
from schemas.days import UNDATED
from schemas.errors import UserError, exit_with_one_line
from schemas.tables.registry import TABLES

INDEX = "index.html"
_WORDS = {
    PASS: "All rules hold",
    WARN: "Warnings only: the day goes on",
    FAIL: "Failed: no job builds on it",
}
_TITLES = {ABOUT_ROWS: "Rules of the table", ABOUT_COLUMNS: "Columns", ABOUT_PARTITION: "The partition as a whole"}
_COUNTED = {
    (FAILED, Severity.CRITICAL.value): "failed as critical",
    (FAILED, Severity.WARNING.value): "failed as warnings",
    (HOLDS, ""): "hold",
    (NOT_ASKED, ""): "not asked",
}
_BADGES = {Severity.CRITICAL.value: FAIL, Severity.WARNING.value: WARN}


def main() -> None:
    arguments = dataset_parser(__doc__)
    add_lake(arguments)
    args = arguments.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    audits = stored_audits(lake, dataset.name)
    if not audits:
        raise UserError(f"no audits of {dataset.name} in {lake.root}: run jobs.audit_table first (make run)")
    print(publish_pages(lake, dataset.name, audits))


def publish_pages(lake: Lake, dataset: str, audits: Iterable[Audit]) -> Path:
    """Write the pages of these audits, and the index over all stored ones; the path of the index."""
    docs = lake.docs(dataset)
    for audit in audits:
        write_to_lake(lake, docs / audit.table / f"{audit.ds}.html", audit_page(audit))
    with one_at_a_time(docs):
        write_to_lake(lake, docs / INDEX, index_page(dataset, stored_audits(lake, dataset)))
    return docs / INDEX


def audit_page(audit: Audit) -> str:
    """One partition's page: the verdict, what failed and why it matters, then every rule."""
    groups = [(title, [o for o in audit.outcomes if o.about == about]) for about, title in _TITLES.items()]
    counts = Counter((o.status, o.severity if o.status == FAILED else "") for o in audit.outcomes)
    summary = ", ".join(f"{counts[kind]} {what}" for kind, what in _COUNTED.items() if counts[kind])
    shares = {o: f"{o.rows / audit.rows:.2%}" for o in audit.failed if o.rows and audit.rows}
    return render(
        "audit_page.html", audit=audit, shares=shares, groups=groups, summary=summary, words=_WORDS, badges=_BADGES
    )


def index_page(dataset: str, audits: list[Audit]) -> str:
    """Days by tables, newest day first; rows of unknown day last."""
    by_place = {(audit.table, audit.ds): audit for audit in audits}
    days = sorted({audit.ds for audit in audits}, key=lambda day: "" if day == UNDATED else day, reverse=True)
    verdicts = Counter(audit.verdict for audit in audits)
    verdict = next((v for v in (FAIL, WARN) if verdicts[v]), PASS)
    headline = {
        FAIL: f"{verdicts[FAIL]} failed, {verdicts[WARN]} with warnings",
        WARN: f"{verdicts[WARN]} with warnings, none failed",
        PASS: "All rules hold everywhere",
    }[verdict]
    return render(
        "audit_index.html", dataset=dataset, audits=audits, by_place=by_place, days=days, verdict=verdict,
        headline=headline, tables=[name for name in TABLES if any(audit.table == name for audit in audits)],
    )  # fmt: skip


if __name__ == "__main__":
    exit_with_one_line(main)

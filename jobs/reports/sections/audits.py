"""The section about audits: each table of the day with its verdict."""

from jobs.quality.audit_results import FAILED, HOLDS
from jobs.reports.content import Cell, HtmlTable, Section
from jobs.reports.day_view import DayView
from lakehouse.published_days import unused_tables
from schemas.tables.registry import TABLES


def audits_section(view: DayView) -> Section:
    """One row per table: its rows, its verdict, and how many rules hold."""
    text: list[str | Cell] = [
        "Every table is checked against its rules before a job builds on it. A critical failure stops the day, a "
        "warning is only reported. The links lead to all rules, with examples."
    ]
    if (view.lake.docs(view.dataset) / "index.html").is_file():
        text.append(Cell("All audits of all days (data docs)", f"{view.docs_url}/index.html"))
    unused = unused_tables(view.lake, view.dataset)
    table = HtmlTable(
        "Tables of the day", ("Table", "Rows", "Audit", "Rules"),
        tuple(
            _row(view, name)
            for name, table in TABLES.items()
            if view.has(name) or not (table.optional or name in unused)
        ),
        frozenset({1}),
    )  # fmt: skip
    return Section("audits", "Audits", tuple(text), tables=(table,))


def _row(view: DayView, table: str) -> tuple[str | Cell, ...]:
    name, manifest = Cell(table, small=TABLES[table].summary), view.manifests.get(table)
    if manifest is None:
        return name, "", "missing", ""
    if not view.is_audited(table):
        return name, f"{manifest.rows:,}", "not audited", ""
    audit = view.audits[table]
    holding = sum(outcome.status == HOLDS for outcome in audit.outcomes)
    failed = sum(outcome.status == FAILED for outcome in audit.outcomes)
    rules = f"{holding} hold" + (f", {failed} failed" if failed else "")
    return name, f"{manifest.rows:,}", view.audit_link(table, audit.verdict, audit.verdict), rules

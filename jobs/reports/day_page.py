"""The page of a day's report: its verdict, its sections, and the summary that the index is made from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jobs.quality.audit_results import FAIL
from jobs.reports.content import SEVERITY_BADGES, Section
from jobs.reports.day_view import DayView, Unreadable, view_day
from jobs.reports.formats import long_day
from jobs.reports.index_page import publish_index
from jobs.reports.rendering import render
from jobs.reports.sections.audits import audits_section
from jobs.reports.sections.budget import budget_section
from jobs.reports.sections.drift import drift_section
from jobs.reports.sections.fusion import fusion_section
from jobs.reports.sections.journeys import journeys_section
from jobs.reports.sections.policies import policies_section
from jobs.reports.sections.prequential import prequential_section
from jobs.reports.sections.quarantine import quarantine_section
from jobs.reports.sections.ranks import ranks_section
from jobs.reports.sections.rows import rows_section
from jobs.reports.sections.tasks import tasks_section
from jobs.reports.sections.training import training_section
from jobs.reports.summaries import Summary, store_summary
from jobs.reports.verdict import Verdict, verdict_of
from lakehouse.lake import Lake
from lakehouse.storage.files import write_whole
from schemas.dataset import Dataset

# By anchor, in the order of the page.
SECTIONS: Mapping[str, Callable[[DayView], Section]] = {
    "rows": rows_section,
    "quarantine": quarantine_section,
    "audits": audits_section,
    "drift": drift_section,
    "journeys": journeys_section,
    "policies": policies_section,
    "ranks": ranks_section,
    "tasks": tasks_section,
    "fusion": fusion_section,
    "budget": budget_section,
    "training": training_section,
    "prequential": prequential_section,
}


def publish_report(lake: Lake, dataset: Dataset, day: str) -> Path:
    """Write the day's page, its summary, and the index over all days; returns the path of the page."""
    view = view_day(lake, dataset, day)
    verdict = verdict_of(view)
    sections = [_section_or_fault(name, section, view, verdict) for name, section in SECTIONS.items()]
    page = lake.reports(dataset) / f"{day}.html"
    write_whole(page, _day_page(view, verdict, sections))
    figures = tuple(figure for section in sections for figure in section.trend_figures)
    store_summary(lake, dataset, Summary(day, verdict.kind, verdict.headline, figures))
    publish_index(lake, dataset)
    return page


def _section_or_fault(name: str, section: Callable[[DayView], Section], view: DayView, verdict: Verdict) -> Section:
    """The section, or the error if its tables are broken: the page of a broken day matters most."""
    try:
        return section(view)
    except Exception as error:
        # A table that failed its audit may contain anything. On any other day, an error of a section is our own.
        if verdict.kind != FAIL and not isinstance(error, Unreadable):
            raise
        message = str(error) if isinstance(error, Unreadable) else f"{type(error).__name__}: {error}"
        return Section(name, name.capitalize(), (f"This section cannot be made from the day's tables: {message}",))


def _day_page(view: DayView, verdict: Verdict, sections: Sequence[Section]) -> str:
    return render(
        "report_day.html", "report.css", title=view.dataset.title, ds=view.day, long_day=long_day(view.day),
        verdict=verdict, sections=sections, notes=view.dataset.notes, badges=SEVERITY_BADGES,
    )  # fmt: skip

"""The daily report: one page a day that says whether the day is good and what it looks like, and an index over days.

    python -m jobs.report --dataset kuairand --lake lake [--day DAY | --from DAY --to DAY] [--if-there]

Writes LAKE/reports/dataset=<dataset>/<day>.html and index.html, which open in any browser, without a network, and
prints the path of the last page. Default: the latest day. Everything is read from what the lake holds; a day costs a
day, and the index reads the small summaries that the reports leave beside their pages.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs.quality.audit_results import FAIL
from jobs.reports import svg
from jobs.reports.content import Headline, Picture, Section
from jobs.reports.day import Day, Unreadable, Verdict, open_day, verdict_of
from jobs.reports.drift import drift_section
from jobs.reports.html_pages import one_at_a_time, render
from jobs.reports.intake import audits_section, journeys_section, quarantine_section, rows_section
from jobs.reports.models import prequential_section, training_section
from jobs.reports.results import budget_section, policy_section, ranks_section
from jobs.reports.stored import Summary, store, stored_summaries
from jobs.reports.svg import Series, lines
from jobs.reports.words import long_day, short_days
from lakehouse.arguments import add_day_range, add_lake, dataset_of, dataset_parser, day_range_of, lake_of
from lakehouse.lake import Lake
from lakehouse.staging import write_to_lake
from schemas.dataset import Dataset
from schemas.days import checked_day, day_plus, days_between
from schemas.errors import NothingToDo, UserError, exit_with_one_line
from schemas.tables.registry import TABLES

INDEX = "index.html"
_SECTIONS = (
    rows_section, quarantine_section, audits_section, drift_section, journeys_section, policy_section, ranks_section,
    budget_section, training_section, prequential_section,
)  # fmt: skip
_TREND_DAYS = 60
_DAYS_SHOWN = 14  # in the index; the older ones are folded
_STYLES = ("report.css",)
NO_REPORT = "none"  # the kind of an entry of the index that stands for days without a report
_BADGES = {"pass": "good", "warn": "warnings", "fail": "stopped", "part": "incomplete", NO_REPORT: "missing"}


def main() -> None:
    args = _arguments().parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    first, last = day_range_of(args)
    if args.day and (first or last):
        raise UserError("--day is one day, --from and --to are a range: give one of them")
    for ds in days_to_report(lake, dataset, args.day and checked_day(args.day), first, last, if_there=args.if_there):
        page = publish_report(lake, dataset, ds)
    print(page)


def days_to_report(
    lake: Lake, dataset: Dataset, day: str | None, first: str | None, last: str | None, *, if_there: bool = False
) -> list[str]:
    """The days that are asked for, oldest first, the latest by default; a UserError where there is none.

    if_there: NothingToDo instead, where the lake is there and only the day is not.
    """
    if not lake.root.is_dir():
        raise UserError(f"no such folder: {lake.root} (LAKE must name the output folder of an earlier run)")
    there = sorted({ds for table in TABLES for ds in lake.days(table, dataset)})
    if not there:
        asked, span = "", "run a day first (make run)"
        days = []
    elif day or first or last:
        asked = f" on {day}" if day else f" from {first or 'the beginning'} to {last or 'the end'}"
        span = f"there are {there[0]} to {there[-1]}"
        days = [ds for ds in there if (day or first or ds) <= ds <= (day or last or ds)]
    else:
        days = there[-1:]
    if not days:
        raise (NothingToDo if if_there else UserError)(f"nothing of {dataset.name}{asked} in {lake.root}: {span}")
    return days


def publish_report(lake: Lake, dataset: Dataset, ds: str) -> Path:
    """Write the day's page, its summary, and the index over all of them; the path of the page."""
    day = open_day(lake, dataset, ds)
    verdict = verdict_of(day)
    sections = [_readable(section, day, verdict) for section in _SECTIONS]
    figures = tuple(headline for section in sections for headline in section.headlines)
    folder = lake.reports(dataset)
    page = folder / f"{ds}.html"
    write_to_lake(lake, page, day_page(day, verdict, sections))
    store(lake, dataset.name, Summary(ds, verdict.kind, verdict.headline, figures))
    with one_at_a_time(folder):
        write_to_lake(lake, folder / INDEX, index_page(dataset, stored_summaries(lake, dataset.name)))
    return page


def _readable(section: Callable[[Day], Section], day: Day, verdict: Verdict) -> Section:
    """The section, or in its place what is wrong with its table: a day with a broken table needs its page most."""
    try:
        return section(day)
    except Exception as fault:
        # A table that has failed its audit may hold anything; of any other day this is our fault, and shown as such.
        if verdict.kind != FAIL and not isinstance(fault, Unreadable):
            raise
        name = section.__name__.removesuffix("_section")
        said = str(fault) if isinstance(fault, Unreadable) else f"{type(fault).__name__}: {fault}"
        return Section(name, name.capitalize(), (f"Nothing can be drawn from what the day holds: {said}",))


def day_page(day: Day, verdict: Verdict, sections: Sequence[Section]) -> str:
    return render(
        "report_day.html", *_STYLES, title=day.dataset.title, ds=day.ds, long_day=long_day(day.ds), verdict=verdict,
        sections=sections, notes=day.dataset.notes, badges={"critical": "fail", "warning": "warn"},
    )  # fmt: skip


def index_page(dataset: Dataset, summaries: list[Summary]) -> str:
    """All days that have a report, newest first, a line where some are missing, and the trend of each headline figure.

    Pictures go by the calendar: a day without a report is a gap.
    """
    newest = summaries[-1].ds
    first = max(summaries[0].ds, day_plus(newest, 1 - _TREND_DAYS))
    days = days_between(first, newest)
    return render(
        "report_index.html", *_STYLES, title=dataset.title, entries=with_gaps(summaries)[::-1], newest=summaries[-1],
        shown=_DAYS_SHOWN, badges=_BADGES, trends=trends([s for s in summaries if s.ds >= first], days), days=len(days),
    )  # fmt: skip


def with_gaps(summaries: Sequence[Summary]) -> list[Summary]:
    """The summaries, and between two that are not of neighbouring days one that stands for the days without a report.

    Its ds is the first of those days.
    """
    entries: list[Summary] = []
    for summary in summaries:
        if entries and (first := day_plus(entries[-1].ds, 1)) < summary.ds:
            last = day_plus(summary.ds, -1)
            span = "no report of this day" if first == last else f"no report of the days to {last}"
            entries.append(Summary(first, NO_REPORT, f"{span}: the log has none, or they were not run", ()))
        entries.append(summary)
    return entries


def trends(summaries: list[Summary], days: list[str]) -> list[Picture]:
    """A picture a headline figure, over these days, in the order of the newest day that has it."""
    shapes: dict[str, Headline] = {}
    values: dict[str, dict[str, dict[str, float]]] = {}
    for summary in reversed(summaries):
        for figure in summary.figures:
            shapes.setdefault(figure.picture, figure)
            values.setdefault(figure.picture, {}).setdefault(figure.series, {})[summary.ds] = figure.value
    pictures = []
    for title, of_series in values.items():
        series = [Series(name, [of_day.get(ds) for ds in days]) for name, of_day in of_series.items()]
        shape = shapes[title]
        drawn = lines(title, short_days(days), series, getattr(svg, shape.show), from_zero=shape.from_zero)
        pictures.append(Picture(title, drawn, shape.look))
    return pictures


def _arguments() -> argparse.ArgumentParser:
    result = dataset_parser(__doc__)
    add_lake(result)
    add_day_range(result)
    result.add_argument("--day", help="the day, YYYY-MM-DD; default: the latest that the lake holds")
    result.add_argument(
        "--if-there", action="store_true", help="a day that the lake does not hold is no error but nothing to do"
    )
    return result


if __name__ == "__main__":
    exit_with_one_line(main)

"""The index over all days that have a report: their verdicts, and the trend of each figure."""

from collections.abc import Sequence

from jobs.reports.charts import lines
from jobs.reports.content import Picture, TrendFigure
from jobs.reports.formats import FORMATS, short_days
from jobs.reports.rendering import render, write_index
from jobs.reports.summaries import Summary, stored_summaries
from jobs.reports.svg import Series
from lakehouse.lake import Lake
from schemas.dataset import Dataset
from schemas.days import day_before, day_plus, days_between

INDEX = "index.html"
_TREND_DAYS = 60
_DAYS_SHOWN = 14  # older days are folded
_NO_REPORT = "none"  # the kind of an entry that stands for days without a report
_BADGES = {"pass": "good", "warn": "warnings", "fail": "stopped", "part": "incomplete", _NO_REPORT: "missing"}


def publish_index(lake: Lake, dataset: Dataset) -> None:
    """Write the index from the stored summaries."""
    folder = lake.reports(dataset)
    write_index(folder / INDEX, folder, lambda: index_page(dataset, stored_summaries(lake, dataset)))


def index_page(dataset: Dataset, summaries: list[Summary]) -> str:
    """The newest day first. The pictures have every calendar day: a day without a report is a gap."""
    newest = summaries[-1].ds
    first = max(summaries[0].ds, day_plus(newest, 1 - _TREND_DAYS))
    days = days_between(first, newest)
    pictures = trends([summary for summary in summaries if summary.ds >= first], days)
    return render(
        "report_index.html", "report.css", title=dataset.title, entries=with_gaps(summaries)[::-1],
        newest=summaries[-1], shown=_DAYS_SHOWN, badges=_BADGES, trends=pictures, days=len(days),
    )  # fmt: skip


def with_gaps(summaries: Sequence[Summary]) -> list[Summary]:
    """The summaries, with one entry for each gap of days without a report; its ds is the first day of the gap."""
    entries: list[Summary] = []
    for summary in summaries:
        if entries and (first := day_plus(entries[-1].ds, 1)) < summary.ds:
            last = day_before(summary.ds)
            span = "no report for this day" if first == last else f"no report for the days until {last}"
            entries.append(Summary(first, _NO_REPORT, f"{span}: the log has no rows, or the days were not run", ()))
        entries.append(summary)
    return entries


def trends(summaries: list[Summary], days: list[str]) -> list[Picture]:
    """One picture for each trend figure over these days, in the order of the newest day that has it."""
    newest_figures: dict[str, TrendFigure] = {}
    values: dict[str, dict[str, dict[str, float]]] = {}  # by picture, series and day
    for summary in reversed(summaries):
        for figure in summary.figures:
            newest_figures.setdefault(figure.picture, figure)
            values.setdefault(figure.picture, {}).setdefault(figure.series, {})[summary.ds] = figure.value
    pictures = []
    for title, values_by_series in values.items():
        series = [Series(name, [by_day.get(day) for day in days]) for name, by_day in values_by_series.items()]
        newest = newest_figures[title]
        picture = lines(title, short_days(days), series, FORMATS[newest.show], from_zero=newest.from_zero)
        pictures.append(Picture(title, picture, newest.look))
    return pictures

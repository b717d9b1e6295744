"""The section about the rows that came in: how many became exposures, were duplicates, or went to quarantine."""

from jobs.reports.charts import columns
from jobs.reports.content import Picture, Section, TrendFigure
from jobs.reports.day_view import DayView
from jobs.reports.formats import count, share_of, short_days
from jobs.reports.svg import Series
from schemas.days import day_plus, days_between
from schemas.printable import counted
from schemas.tables import EXPOSURES

_DAYS_SHOWN = 14
_SHARES = "Share of rows in quarantine or duplicate"
_LOOK_AT_ROWS = "Look for a day far below or above its neighbours: the feed broke, or was delivered twice."
_LOOK_AT_SHARES = "Look for a rise: the feed has changed."


def rows_section(view: DayView) -> Section:
    """From the manifests of the day's exposures and of the days before it."""
    manifest = view.manifests.get(EXPOSURES)
    if manifest is None:
        text = "This day has no exposures: the log has no rows for it, or the run was stopped while it read them."
        return Section("rows", "Rows", (text,))
    exposures, counts = manifest.rows, manifest.counts
    rows_in, duplicates, quarantined = counts["rows_in"], counts["duplicates"], counts["quarantined"]
    outcomes = counts.get("outcomes", 0)
    joined = f"{outcomes:,} reported outcomes, " if outcomes else ""
    text = (
        f"Of {counted(rows_in, 'row')} that the log has for this day, {exposures:,} became ad exposures, "
        f"{duplicates:,} repeated another row, {joined}and {quarantined:,} ({share_of(quarantined, rows_in)}) went to "
        "quarantine."
    )
    if rows_in != exposures + duplicates + outcomes + quarantined:
        text += " These numbers do not add up: rows were lost or counted twice."
    shares = {"quarantined": quarantined, "duplicates": duplicates}
    return Section(
        "rows",
        "Rows",
        (text,),
        (_rows_per_day(view),),
        trend_figures=(
            TrendFigure("Rows in", "", rows_in, "count", _LOOK_AT_ROWS, True),
            *(
                TrendFigure(_SHARES, name, rows / rows_in if rows_in else 0, "share", _LOOK_AT_SHARES)
                for name, rows in shares.items()
            ),
        ),
    )


def _rows_per_day(view: DayView) -> Picture:
    """The latest days up to this one. A day that was never published is a gap."""
    first = max(day_plus(view.day, 1 - _DAYS_SHOWN), view.lake.days(EXPOSURES, view.dataset)[0])
    days = days_between(first, view.day)
    manifests = [view.lake[EXPOSURES, view.dataset, day].manifest for day in days]
    series = [Series("exposures", [m.rows if m else None for m in manifests])] + [
        Series(name, [m.counts.get(name, 0) if m else None for m in manifests])
        for name in ("duplicates", "quarantined")
    ]
    title = f"Rows per day, the last {len(days)} days"
    return Picture(title, columns("Rows per day", short_days(days), series, count), _LOOK_AT_ROWS)

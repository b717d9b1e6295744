"""The section about refused rows: of the day, and of the whole log if they belong to no day."""

from jobs.reports.charts import bars
from jobs.reports.content import Cell, HtmlTable, Picture, Section
from jobs.reports.day_view import DayView
from jobs.reports.formats import count
from jobs.reports.svg import Series
from schemas.days import UNDATED
from schemas.tables import QUARANTINE

_MOST_REASONS = 8
_MOST_GROUPS = 30
_EXAMPLES = 2
_LONGEST_ROW = 200  # characters of a refused row


def quarantine_section(view: DayView) -> Section:
    """Refused rows by reason and source file, with examples."""
    text: list[str | Cell] = []
    pictures, tables = [], []
    refused = view.manifests.get(QUARANTINE)
    if refused is None or not refused.rows:
        text.append("No row of this day was refused.")
    else:
        text.append(
            f"{refused.rows:,} rows of this day were refused. They are stored unchanged, with the reason; "
            " docs/quality.md explains how to repair and replay them."
        )
        tables.append(_refused_table("Refused rows by reason and source file", _groups(view, view.day)))
        pictures.append(_reasons(view))
    undated = view.lake[QUARANTINE, view.dataset, UNDATED].manifest
    if undated and undated.rows:
        text.append(
            f"{undated.rows:,} rows of the whole log have no readable time stamp, or one outside the days of the log. "
            "They belong to no day, so the report of every day shows them."
        )
        tables.append(_refused_table("Refused rows without a day", _groups(view, UNDATED)))
    return Section("quarantine", "Refused rows", tuple(text), tuple(pictures), tuple(tables))


def _reasons(view: DayView) -> Picture:
    rows = view.query(
        QUARANTINE,
        f"""SELECT reason, count(*) AS refused FROM "partition" GROUP BY ALL
            ORDER BY refused DESC, reason LIMIT {_MOST_REASONS}""",
    )
    reasons, counts = [reason for reason, _ in rows], [refused for _, refused in rows]
    return Picture(
        "Refused rows by reason",
        bars("Refused rows by reason", reasons, [Series("", counts)], count),
        "Look for one reason that covers nearly all rows: one repair corrects them.",
    )


def _groups(view: DayView, day: str) -> list[tuple[str, str, int, list[str]]]:
    """(reason, source file, rows, examples), the largest group first."""
    return view.query(
        QUARANTINE,
        f"""SELECT reason, source_file, count(*) AS refused, min(raw[:{_LONGEST_ROW + 1}], {_EXAMPLES})
            FROM "partition" GROUP BY ALL ORDER BY refused DESC, reason, source_file LIMIT {_MOST_GROUPS}""",
        day,
    )


def _refused_table(title: str, groups: list[tuple[str, str, int, list[str]]]) -> HtmlTable:
    rows = tuple(
        (reason, file, f"{rows:,}", Cell("\n".join(_cut(example) for example in examples or ()), code=True))
        for reason, file, rows, examples in groups
    )
    return HtmlTable(title, ("Reason", "Source file", "Rows", "Examples from the log"), rows, frozenset({2}))


def _cut(raw: str) -> str:
    return raw if len(raw) <= _LONGEST_ROW else raw[:_LONGEST_ROW] + "…"

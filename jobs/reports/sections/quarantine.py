"""The section about quarantined rows: those of the day, and those of the whole log that belong to no day."""

from jobs.reports.charts import bars
from jobs.reports.content import Cell, HtmlTable, Picture, Section
from jobs.reports.day_view import DayView
from jobs.reports.formats import count
from jobs.reports.svg import Series
from schemas.days import UNDATED
from schemas.printable import printable
from schemas.tables import QUARANTINE

_MOST_REASONS = 8
_MOST_GROUPS = 30
_EXAMPLES = 2
_LONGEST_ROW = 200  # characters of a quarantined row


def quarantine_section(view: DayView) -> Section:
    """Quarantined rows by reason and source file, with examples."""
    text: list[str | Cell] = []
    pictures, tables = [], []
    manifest = view.manifests.get(QUARANTINE)
    if manifest is None or not manifest.rows:
        text.append("No row of this day is in quarantine.")
    else:
        text.append(
            f"Rows of this day in quarantine: {manifest.rows:,}. They are stored unchanged, with the reason; "
            " docs/quality.md explains how to repair and replay them."
        )
        tables.append(_table("Quarantined rows by reason and source file", _groups(view, view.day)))
        pictures.append(_reasons(view))
    undated = view.lake[QUARANTINE, view.dataset, UNDATED].manifest
    if undated and undated.rows:
        text.append(
            f"Rows of the whole log without a readable time stamp, or with one outside its days: {undated.rows:,}. "
            "They belong to no day, so the report of every day shows them."
        )
        tables.append(_table("Quarantined rows without a day", _groups(view, UNDATED)))
    return Section("quarantine", "Quarantined rows", tuple(text), tuple(pictures), tuple(tables))


def _reasons(view: DayView) -> Picture:
    rows = view.query(
        QUARANTINE,
        f"""SELECT reason, count(*) AS n FROM "partition" GROUP BY ALL
            ORDER BY n DESC, reason LIMIT {_MOST_REASONS}""",
    )
    reasons, counts = [reason for reason, _ in rows], [n for _, n in rows]
    return Picture(
        "Quarantined rows by reason",
        bars("Quarantined rows by reason", reasons, [Series("", counts)], count),
        "Look for one reason that covers nearly all rows: one repair corrects them.",
    )


def _groups(view: DayView, day: str) -> list[tuple[str, str, int, list[bytes | str]]]:
    """(reason, source file, rows, examples), the largest group first."""
    return view.query(
        QUARANTINE,
        f"""SELECT reason, source_file, count(*) AS n, min(raw[:{4 * _LONGEST_ROW + 4}], {_EXAMPLES})
            FROM "partition" GROUP BY ALL ORDER BY n DESC, reason, source_file LIMIT {_MOST_GROUPS}""",
        day,
    )


def _table(title: str, groups: list[tuple[str, str, int, list[bytes | str]]]) -> HtmlTable:
    rows = tuple(
        (reason, file, f"{rows:,}", Cell("\n".join(_cut(example) for example in examples or ()), code=True))
        for reason, file, rows, examples in groups
    )
    return HtmlTable(title, ("Reason", "Source file", "Rows", "Examples from the log"), rows, frozenset({2}))


def _cut(raw: bytes | str) -> str:
    """raw: bytes; a text in partitions of earlier versions."""
    text = printable(raw)
    return text if len(text) <= _LONGEST_ROW else text[:_LONGEST_ROW] + "…"

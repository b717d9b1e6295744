"""The accounts of a raw log: rows delivered = exposures + duplicates + outcomes + quarantined + waiting.

A row waits if its partition is not in the lake with the rows that the raw index has now: its day has not come, is
outside the days that runs build, or has to be built again. It stays in its raw file, and the run that builds its day
counts it there.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from jobs.raw.index import RawIndex
from lakehouse.manifest import Manifest
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.printable import counted
from schemas.tables import EXPOSURES, QUARANTINE

_MOST_NAMED = 3  # files in one line


@dataclass(frozen=True, slots=True)
class LogAccounts:
    """waiting: the number of waiting rows of each partition that has any."""

    delivered: int
    exposures: int = 0
    duplicates: int = 0
    quarantined: int = 0
    outcomes: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict)

    @property
    def unexplained(self) -> int:
        """Rows that are in none of the five; anything but 0 is an error in this program."""
        settled = self.exposures + self.duplicates + self.quarantined + self.outcomes
        return self.delivered - settled - sum(self.waiting.values())


def log_accounts(index: RawIndex, manifest: Callable[[str, str], Manifest | None]) -> LogAccounts:
    """manifest: that of a table's partition on a day, None if nothing is published."""
    exposures = duplicates = quarantined = outcomes = 0
    waiting = {}
    for day, rows in sorted(index.rows_by_partition().items()):
        published = [manifest(table, day) for table in ((QUARANTINE,) if day == UNDATED else (QUARANTINE, EXPOSURES))]
        fresh = [m for m in published if m is not None and m.inputs == index.inputs(day)]
        if len(fresh) < len(published):
            waiting[day] = rows
            continue
        quarantined += fresh[0].rows
        exposures += sum(m.rows for m in fresh[1:])
        duplicates += sum(m.counts.get("duplicates", 0) for m in fresh)
        outcomes += sum(m.counts.get("outcomes", 0) for m in fresh)
    return LogAccounts(index.rows, exposures, duplicates, quarantined, outcomes, waiting)


def waiting_line(dataset: Dataset, index: RawIndex, waiting: Mapping[str, int]) -> str:
    """One line with the waiting rows, grouped by reason, and the remedy of each group; empty if no row waits.

    waiting: as of LogAccounts.
    """
    groups: dict[Callable[[Dataset, RawIndex, list[str]], str], list[str]] = {}
    for day in waiting:
        groups.setdefault(_advice(index, day), []).append(day)
    parts = [
        f"{sum(waiting[day] for day in days):,} of {_named(days)} {advice(dataset, index, days)}"
        for advice, days in groups.items()
    ]
    if not parts:
        return ""
    rows = sum(waiting.values())
    verb = "waits" if rows == 1 else "wait"
    return f"note: {counted(rows, 'raw row')} of {dataset.name} {verb}: {'; '.join(parts)}"


def accept_few_rows(dataset: Dataset, day: str) -> str:
    """The command that builds a last day with few rows."""
    return f"make backfill DATASET={dataset.name} FROM={day} TO={day} ACCEPT_FEW_ROWS=1"


def _advice(index: RawIndex, day: str) -> Callable[[Dataset, RawIndex, list[str]], str]:
    if day == UNDATED:
        return _not_built
    if index.span is None or not index.span[0] <= day <= index.span[1]:
        return _beyond_gap
    if index.removed_files_with(day):
        return _removed_files
    if day > index.log_days[1]:
        return _few_rows
    return _earlier if day < min(index.published, default=index.log_days[0]) else _not_built


def _beyond_gap(_: Dataset, index: RawIndex, days: list[str]) -> str:
    return (
        f"(in {_files(index, days)}) after or before a gap of more than {index.quality.longest_gap_days} days without "
        "a row: correct the stamps, or raise longest_gap_days in the contract's Quality"
    )


def _few_rows(dataset: Dataset, index: RawIndex, days: list[str]) -> str:
    usual = index.calendar.usual_rows(days[-1]) or 0
    return f"for the rest of its day, usually {usual:,.0f} rows; if no more come: {accept_few_rows(dataset, days[-1])}"


def _earlier(dataset: Dataset, _: RawIndex, days: list[str]) -> str:
    backfill = f"make backfill DATASET={dataset.name} FROM={days[0]} TO={days[-1]}"
    return f"before the first day that runs build: {backfill} builds them, or make run with FROM={days[0]}"


def _removed_files(_: Dataset, index: RawIndex, days: list[str]) -> str:
    return f"for a file that was removed before their day was built: restore {_files(index, days, index.removed)}"


def _not_built(*_: object) -> str:
    return "for a run that builds their days"


def _named(days: list[str]) -> str:
    return days[0] if len(days) == 1 else f"{len(days)} days from {days[0]} to {days[-1]}"


def _files(index: RawIndex, days: list[str], file_names: Container[str] | None = None) -> str:
    names = [name for name in sorted(index.files_with(days)) if file_names is None or name in file_names]
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")

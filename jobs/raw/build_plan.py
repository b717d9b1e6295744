"""Which days of a raw log a run has to build: those that are missing in the lake or whose raw rows have changed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.raw.accounts import accept_few_rows
from jobs.raw.index import RawIndex
from lakehouse.lake import Lake
from lakehouse.published_days import stale_days
from schemas.dataset import Dataset
from schemas.days import UNDATED, day_plus, days_between
from schemas.errors import NothingToDo, NothingToDoYet, UserError
from schemas.printable import counted, printable
from schemas.tables import EXPOSURES, QUARANTINE

_MAX_DAYS_LATE = 7  # a log whose last day is older than this is complete


@dataclass(frozen=True, slots=True)
class DayRequest:
    """The days that a run requests: a range, each end None if it is open, or all days up to one.

    code: the code version that must have built a day for it to be fresh; None for any.
    accept_few_rows: a last day is built although it has few of its usual rows (LogCalendar). A day that a range
    names is built in any case.
    """

    first: str | None = None
    last: str | None = None
    up_to: str | None = None
    code: str | None = None
    accept_few_rows: bool = False


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The requested days, compared with the lake and with the index of the raw log."""

    lake: Lake
    dataset: Dataset
    index: RawIndex
    request: DayRequest

    def days(self) -> list[str]:
        """The requested days. A day inside the log without rows is valid and empty.

        Raises UserError for a range that ends outside the log; NothingToDo if the day `up_to` has not come;
        NothingToDoYet if the log has rows of it, or its last day is so recent that the rest may follow.
        """
        if self.request.up_to:
            return self._days_up_to(self.request.up_to)
        first_day, last_day = self._log_days
        for day in (self.request.first, self.request.last):
            if day and not self._is_in_span(day):
                raise UserError(f"{day} is outside the log, which has the days {first_day} to {last_day}")
        first = self.request.first or min(first_day, self.request.last or first_day)
        return days_between(first, self.request.last or max(last_day, first))

    @property
    def _log_days(self) -> tuple[str, str]:
        return self.index.calendar.days(few_rows=self.request.accept_few_rows)

    def _is_in_span(self, day: str) -> bool:
        return self.index.span is not None and self.index.span[0] <= day <= self.index.span[1]

    def _days_up_to(self, day: str) -> list[str]:
        """From the first day in the lake, or in the log if the lake is empty, to this one."""
        first_day, last_day = self._log_days
        has_come = self.index.calendar.has_come(day) or (self.request.accept_few_rows and self._is_in_span(day))
        if not has_come:
            last_row = self.index.span[1] if self.index.span else last_day
            may_follow = first_day <= day <= day_plus(last_row, _MAX_DAYS_LATE)
            raise (NothingToDoYet if may_follow else NothingToDo)(
                f"the log has the days {first_day} to {last_day}, and {self._rows_so_far(day)}"
            )
        published = self.lake.days(EXPOSURES, self.dataset)
        return days_between(max(first_day, min(day, published[0])) if published else min(first_day, day), day)

    def _rows_so_far(self, day: str) -> str:
        calendar = self.index.calendar
        rows, usual = calendar.rows.get(day, 0), calendar.usual_rows(day)
        if not rows:
            return f"so far no row of {day}"
        if usual is None or not self._is_in_span(day):
            return f"{counted(rows, 'row')} of {day}, which is not one of them"
        return (
            f"so far {rows:,} of the usual {usual:,.0f} rows of {day}; if no more come: "
            f"{accept_few_rows(self.dataset, day)}"
        )

    def days_to_build(self) -> list[str]:
        """The requested days that are stale, UNDATED among them, and can be built.

        A day cannot be built if rows of it were in a file that has been removed and cannot be taken from the lake.
        Raises UserError for such a day; for one before `up_to` prints a note instead, and the day is not built.
        """
        stale_days = self.stale_days(self.days(), self.request.code)
        missing_files = {day: names for day in stale_days if (names := self._missing_files(day))}
        for day, names in missing_files.items():
            names_text = ", ".join(printable(name) for name in names[:3])
            line = (
                f"{day} has to be built, but {names_text}, which had rows that it needs, has been removed: "
                "restore it, or leave it with its header alone to withdraw the rows"
            )
            if self.request.up_to in (None, day):
                raise UserError(line)
            print(f"note: {line}; until then the day is not built")
        return [day for day in stale_days if day not in missing_files]

    def stale_days(self, days: Iterable[str], code: str | None) -> list[str]:
        """The days whose exposures or quarantine do not match the raw rows; then UNDATED if its quarantine does not."""
        inputs = {day: self.index.inputs(day) for day in (*days, UNDATED)}
        stale = set(stale_days(self.lake, QUARANTINE, self.dataset, inputs, this_code=code))
        dated_inputs = {day: inputs[day] for day in inputs if day != UNDATED}
        stale |= set(stale_days(self.lake, EXPOSURES, self.dataset, dated_inputs, this_code=code))
        return [day for day in inputs if day in stale]

    def _missing_files(self, day: str) -> list[str]:
        """The removed files with rows that decide about this day, unless these rows can be taken from the lake.

        They can if the day was published with them. For a file without rows of the day itself it is enough that the
        days of its exposures were, since an outcome of this day may belong to one of them.
        """
        removed = self.index.removed_files_with(day)
        tables = (QUARANTINE,) if day == UNDATED else (EXPOSURES, QUARANTINE)
        if all(self._is_published_with(removed, table, day) for table in tables):
            return []
        missing = []
        for name in removed:
            days = self.index.removed_exposure_days_near(name, day)
            if days is None or not all(self._is_published_with([name], EXPOSURES, d) for d in days):
                missing.append(name)
        return missing

    def _is_published_with(self, names: Sequence[str], table: str, day: str) -> bool:
        """Whether the published partition has the rows of these files, and the present rows of the other files.

        Files may have been added. Otherwise old rows would have to be separated, and no exposure shows its file.
        """
        manifest = self.lake[table, self.dataset, day].manifest
        published = manifest.inputs if manifest else {}
        return published.items() <= self.index.inputs(day).items() and {f"raw/{n}" for n in names} <= published.keys()

"""The steps of the users of some windows, read from `exposures` and `steps`, by user and in the order of the journey.

A day's windows have steps of that day and, as context, of earlier days. Those are read from the days of the request,
then from the journeys of the day before its first day, or if these are missing from one earlier day after another.

Shapes: M steps, W windows, L = n positions.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.arrow_types import arrow_type
from lakehouse.journeys import NewestRows
from lakehouse.lake import Lake
from lakehouse.published_days import newest_fresh_day
from lakehouse.storage.data_files import local_file, open_parquet, part_of
from lakehouse.storage.delta_table import DataFile
from schemas.dataset import Dataset
from schemas.days import day_plus
from schemas.errors import UserError
from schemas.tables import EXPOSURES, JOURNEYS, STEPS
from schemas.tables.exposures import exposures
from schemas.tables.steps import steps

POSITION = "journey_position"
_JOURNEYS_PER_READ = 1024  # a journey takes about 10,000 bytes

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class JourneyRows:
    """M steps: all columns that were asked for, sorted by user and position. The positions of a user have no gap.

    user_id_U: the users. start_U: each user's first row. position_U: its position in the user's journey.
    """

    rows: pa.Table
    user_id_U: pa.Array
    start_U: Ints
    position_U: Ints

    @classmethod
    def from_rows(cls, rows: pa.Table) -> "JourneyRows":
        """rows: user_id, POSITION and other columns, each step once. Raises UserError if a user's steps have a gap."""
        user_id = rows.column("user_id").combine_chunks().dictionary_encode()
        user_M, position_M = user_id.indices.to_numpy().astype(np.int64), rows.column(POSITION).to_numpy()
        order_M = np.lexsort((position_M, user_M))
        user_M, position_M = user_M[order_M], position_M[order_M].astype(np.int64)
        is_first_M = np.diff(user_M, prepend=-1) != 0
        if (np.diff(position_M)[~is_first_M[1:]] != 1).any():
            raise UserError("steps are missing in the journey of a user: build the days again (make backfill)")
        start_U = np.flatnonzero(is_first_M)
        return cls(rows.take(pa.array(order_M)), user_id.dictionary, start_U, position_M[start_U])

    def first_rows(self, windows: pa.Table) -> Ints:
        """[W]: the row of each window's `first_step`. windows: of the table `sequences`.

        Raises UserError if a step of a window is missing.
        """
        user_W = pc.index_in(windows.column("user_id"), value_set=self.user_id_U)
        first_step_W, last_step_W = (windows.column(name).to_numpy() for name in ("first_step", "last_step"))
        if user_W.null_count:
            raise UserError("a user of the windows has no steps: build the days again (make backfill)")
        user = np.asarray(user_W).astype(np.int64)
        length_U = np.diff(np.append(self.start_U, len(self.rows)))
        first_W = first_step_W - self.position_U[user]
        if (first_W < 0).any() or (last_step_W - self.position_U[user] >= length_U[user]).any():
            raise UserError("steps of a window are missing: build the days again (make backfill)")
        first_row_W: Ints = self.start_U[user] + first_W
        return first_row_W


@dataclass(frozen=True)
class StepReader:
    """Reads the steps of one dataset's windows. exposures, steps: the files of each day when the reading began."""

    lake: Lake
    dataset: Dataset
    exposures: dict[str, tuple[DataFile, ...]]
    steps: dict[str, tuple[DataFile, ...]]

    @classmethod
    def up_to(cls, lake: Lake, dataset: Dataset, last_day: str) -> "StepReader":
        """A reader of the days up to the last one."""
        days = [day for day in lake.days(STEPS, dataset) if day <= last_day]
        return cls(lake, dataset, *(dict(lake.present(table, dataset, days)) for table in (EXPOSURES, STEPS)))

    def runs_of_days(self, days: Iterable[str]) -> Iterator[list[str]]:
        """The days in runs without another published day between them: what is between two runs is not read."""
        requested, run = set(days), list[str]()
        for day in sorted({*self.steps, *requested}):
            if day in requested:
                run.append(day)
            elif run:
                yield run
                run = []
        if run:
            yield run

    def read(self, windows: pa.Table, days: Sequence[str], part: str, columns: Sequence[str]) -> JourneyRows:
        """The steps of these windows, and those between them.

        windows: rows of `sequences`, of one part of these days. days: a run of days. columns: of `exposures` and
        `steps`. Raises UserError if steps of the windows are missing.
        """
        needed = _NeededSteps.from_windows(windows)
        names, parts = list(dict.fromkeys(("user_id", POSITION, *columns))), []
        for day in sorted((day for day in self.steps if day <= max(days)), reverse=True):
            if day < min(days):
                is_day_before = not any(day < later < min(days) for later in self.steps)
                remembered = self._remembered(day, part, needed, names) if is_day_before else None
                if remembered is not None:
                    parts.append(remembered)
                    break
            parts.append(self._rows_of_day(day, part, needed, names))
            needed.remove(parts[-1])
            if not len(needed.users):
                break
        return JourneyRows.from_rows(pa.concat_tables(parts or [windows.slice(0, 0)]))

    def _rows_of_day(self, day: str, part: str, needed: "_NeededSteps", names: Sequence[str]) -> pa.Table:
        """The steps of the needed users on a day."""
        files = [file for table in (self.exposures, self.steps) for file in table[day] if part_of(file) == part]
        step_names = {column.name for column in steps(self.dataset).columns}
        schema = _schema(self.dataset, names)
        if not files:
            return schema.empty_table()
        columns: dict[str, pa.ChunkedArray] = {}
        for table, file in zip((EXPOSURES, STEPS), files, strict=False):
            names_here = [name for name in names if (name in step_names) is (table == STEPS)]
            with open_parquet(local_file(self.lake.table(table, self.dataset), file)) as opened:
                missing = sorted({*names_here} - {*opened.schema_arrow.names})
                if missing:
                    raise UserError(
                        f"{self.lake[table, self.dataset, day].path} lacks the column {missing[0]}: build it again "
                        "(make backfill)"
                    )
                rows = opened.read(names_here)
            columns |= {name: rows.column(name) for name in names_here}
        if len(files) == 1 or len({len(column) for column in columns.values()}) > 1:
            raise UserError(
                f"{self.lake[STEPS, self.dataset, day].path} does not match the exposures of that day: build it again "
                "(make backfill)"
            )
        rows = pa.table({name: columns[name] for name in names}).cast(schema)
        return rows.filter(pc.is_in(rows.column("user_id"), value_set=needed.users))

    def _remembered(self, day: str, part: str, needed: "_NeededSteps", names: Sequence[str]) -> pa.Table | None:
        """The remembered steps of the needed users at the end of a day; None without fresh journeys of that day."""
        journeys = self.lake[JOURNEYS, self.dataset, day]
        if newest_fresh_day(self.lake, JOURNEYS, self.dataset, day_plus(day, 1)) != day:
            return None
        schema = _schema(self.dataset, names)
        step_names = [name for name in names if name not in ("user_id", POSITION)]
        columns = ["user_id", "next_step.seen_exposures", *(f"memory.list.element.{name}" for name in step_names)]
        manifest, folder = journeys.manifest, self.lake.table(JOURNEYS, self.dataset)
        files = self.lake.present(JOURNEYS, self.dataset, manifest.days if manifest else []).values()
        paths = [local_file(folder, file) for day_files in files for file in day_files if part_of(file) == part]
        if not paths:
            return schema.empty_table()
        newest = NewestRows(paths)
        is_needed_U = pc.is_in(newest.user_id, value_set=needed.users).to_numpy()
        rows = (
            _steps_in_memory(users, step_names).select(names).cast(schema)
            for users in newest.tables(columns, _JOURNEYS_PER_READ, is_needed_U)
        )
        return pa.concat_tables([schema.empty_table(), *rows])


class _NeededSteps:
    """The users of whose windows earlier steps are missing."""

    def __init__(self, users: pa.Array, first_step_U: Ints) -> None:
        self.users, self._first_step_U = users, first_step_U

    @classmethod
    def from_windows(cls, windows: pa.Table) -> "_NeededSteps":
        users = windows.column("user_id").combine_chunks().dictionary_encode()
        first_step_U = np.full(len(users.dictionary), np.iinfo(np.int64).max)
        np.minimum.at(first_step_U, users.indices.to_numpy(), windows.column("first_step").to_numpy())
        return cls(users.dictionary, first_step_U)

    def remove(self, steps_read: pa.Table) -> None:
        """Remove the users whose oldest needed step has been read."""
        user = pc.index_in(steps_read.column("user_id"), value_set=self.users).to_numpy()
        reached_U = np.full(len(self.users), np.iinfo(np.int64).max)
        np.minimum.at(reached_U, user, steps_read.column(POSITION).to_numpy())
        is_missing_U = reached_U > self._first_step_U
        self.users, self._first_step_U = self.users.filter(pa.array(is_missing_U)), self._first_step_U[is_missing_U]


def _steps_in_memory(journeys: pa.Table, names: Sequence[str]) -> pa.Table:
    """The remembered steps of journeys as rows."""
    memory = journeys.column("memory").combine_chunks()
    length_U = pc.list_value_length(memory).to_numpy()
    seen_U = pc.struct_field(journeys.column("next_step"), "seen_exposures").to_numpy()
    user_M = np.repeat(np.arange(len(length_U)), length_U)
    place_M = np.arange(len(user_M)) - np.repeat(np.cumsum(length_U) - length_U, length_U)
    remembered = memory.flatten()
    return pa.table(
        {
            "user_id": journeys.column("user_id").take(pa.array(user_M)),
            POSITION: (seen_U - length_U)[user_M] + place_M,
            **{name: pc.struct_field(remembered, name) for name in names},
        }
    )


def _schema(dataset: Dataset, names: Sequence[str]) -> pa.Schema:
    columns = {c.name: c for c in (*exposures(dataset).columns, *steps(dataset).columns)}
    return pa.schema([(name, arrow_type(columns[name].dtype)) for name in names])

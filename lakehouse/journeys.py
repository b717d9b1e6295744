"""Journeys as of a day: the newest row of each user among the partitions since the last snapshot.

A partition of `journeys` has the users whose journey has changed on its day, so that a day writes what happened on it.
A day whose number since 1970 is a multiple of SNAPSHOT_DAYS has all users; the first day of a history, too.
Which days are snapshots follows from the calendar, so a day has the same rows in any order of building.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.columns import Ints, Mask, filled_ints, numbers_in_order, to_ints
from features.figures import NEVER, gap_s, since_s
from lakehouse.lake import Lake, Partition
from lakehouse.reading import ROWS_PER_READ
from lakehouse.storage.data_files import local_file, open_parquet, part_of, read_column
from lakehouse.storage.delta_table import DataFile
from schemas.dataset import Dataset
from schemas.tables import JOURNEYS

SNAPSHOT_DAYS = 8
_EPOCH = date(1970, 1, 1)
_LATEST_MS = "memory.list.element.exposed_at_ms"


def snapshot_before(day: str, first: str) -> str:
    """The newest day up to `day` whose partition has all users. first: of the history."""
    days_since = (date.fromisoformat(day) - _EPOCH).days % SNAPSHOT_DAYS
    return max(first, date.fromordinal(date.fromisoformat(day).toordinal() - days_since).isoformat())


def journey_partitions(lake: Lake, dataset: Dataset, day: str) -> list[Partition]:
    """The partitions that have the journeys as of a day, oldest first. Raises UserError as Partition.require does."""
    partition = lake[JOURNEYS, dataset, day]
    partition.require()
    return partition.read_together()


def read_journeys(
    lake: Lake, dataset: Dataset, day: str, columns: Sequence[str], rows_per_read: int = ROWS_PER_READ
) -> Iterator[pa.Table]:
    """The journeys of all users as of the end of a day, as tables of at most `rows_per_read` rows.

    columns: as paths in the Parquet files. The rows of a bucket are adjacent, and in the order of users.
    """
    days = [partition.day for partition in journey_partitions(lake, dataset, day)]
    # A partition that is read alone was written at the end of this day.
    is_of_day = len(days) == 1
    names = list(columns) if is_of_day else [*dict.fromkeys((*columns, *_needed_for_elapsed_times(columns)))]
    for files in _files_by_part(lake, dataset, days):
        local = [local_file(lake.table(JOURNEYS, dataset), file) for file in files]
        for rows in NewestRows(local).tables(names, rows_per_read):
            if not is_of_day:
                rows = with_elapsed_times(rows, dataset, dataset.end_of_day_ms(day))
                rows = rows.select(list(dict.fromkeys(name.partition(".")[0] for name in columns)))
            yield rows


def count_users(lake: Lake, dataset: Dataset, day: str) -> int:
    """How many users have a journey at the end of a day; 0 if there are no journeys of the day."""
    manifest = lake[JOURNEYS, dataset, day].manifest
    if manifest is None or manifest.days == [day]:
        return manifest.rows if manifest else 0
    folder = lake.table(JOURNEYS, dataset)
    ids = (
        pa.chunked_array([chunk for file in files for chunk in read_column(folder, file, "user_id").chunks])
        for files in _files_by_part(lake, dataset, manifest.days)
    )
    return sum(pc.count_distinct(users).as_py() for users in ids)


def _files_by_part(lake: Lake, dataset: Dataset, days: Sequence[str]) -> Iterator[list[DataFile]]:
    """The files of one bucket of users after another, oldest first."""
    files = [file for day_files in lake.present(JOURNEYS, dataset, days).values() for file in day_files]
    for part in sorted({part_of(file) for file in files}):
        yield [file for file in files if part_of(file) == part]


class NewestRows:
    """The newest row of each user of a bucket.

    files: of the bucket, of the days since a snapshot, oldest first; the rows of each are in the order of users. Only
    the ids of all users are in memory.

    Shapes: U users of all files.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        ids = [column for file in files for column in [_read(file, "user_id")]]
        all_ids = pa.chunked_array([chunk for column in ids for chunk in column.chunks], ids[0].type)
        user = numbers_in_order(all_ids)
        _, first_row_U = np.unique(user, return_index=True)
        self.user_id = all_ids.take(pa.array(first_row_U))
        self._user_of_rows = np.split(user, np.cumsum([len(column) for column in ids])[:-1])
        self._newest_file_U = np.zeros(len(first_row_U), np.int64)
        for number, users in enumerate(self._user_of_rows):
            if len(files) > 1 and (np.diff(users) <= 0).any():
                raise ValueError(f"{files[number]}: its rows are not in the order of users")
            self._newest_file_U[users] = number

    def tables(self, columns: Sequence[str], rows_per_read: int, is_read_U: Mask | None = None) -> Iterator[pa.Table]:
        """The rows in the order of users. columns: as paths in the files. is_read_U: the users to read, None: all."""
        if len(self._files) == 1 and is_read_U is None:
            with open_parquet(self._files[0]) as file:
                for batch in file.iter_batches(rows_per_read, columns=list(columns)):
                    yield pa.Table.from_batches([batch])
            return
        is_read_U = np.ones(len(self.user_id), bool) if is_read_U is None else is_read_U
        with ExitStack() as opened:
            files = [
                _SelectedRows(
                    opened.enter_context(open_parquet(path)), columns, users,
                    is_read_U & (self._newest_file_U == number),
                    max(rows_per_read * len(users) // max(len(self.user_id), 1), 1),
                )
                for number, (path, users) in enumerate(zip(self._files, self._user_of_rows, strict=True))
            ]  # fmt: skip
            users = np.flatnonzero(is_read_U)
            for start in range(0, len(users), rows_per_read):
                last_user = users[start : start + rows_per_read][-1]
                yield _merged([file.rows_up_to(last_user) for file in files])


class _SelectedRows:
    """The rows of some users in a file, a few at a time. user_R: the number of each row's user, in ascending order."""

    def __init__(
        self, file: pq.ParquetFile, columns: Sequence[str], user_R: Ints, is_selected_U: Mask, rows_per_read: int
    ) -> None:
        is_selected_R = is_selected_U[user_R]
        self._user = user_R[is_selected_R]
        self._batches = _filtered(file.iter_batches(rows_per_read, columns=list(columns)), is_selected_R)
        self._buffered: list[pa.Table] = []

    def rows_up_to(self, last_user: int) -> tuple[Ints, pa.Table | None]:
        """The next rows, up to this user, with the users' numbers; None without such a row."""
        count = int(np.searchsorted(self._user, last_user, side="right"))
        if not count:
            return self._user[:0], None
        while sum(map(len, self._buffered)) < count:
            self._buffered.append(next(self._batches))
        rows = pa.concat_tables(self._buffered)
        users, self._user = self._user[:count], self._user[count:]
        self._buffered = [rows.slice(count)]
        return users, rows.slice(0, count)


def _filtered(batches: Iterable[pa.RecordBatch], is_selected_R: Mask) -> Iterator[pa.Table]:
    start = 0
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        yield rows.filter(pa.array(is_selected_R[start : start + len(rows)]))
        start += len(rows)


def _merged(parts: Sequence[tuple[Ints, pa.Table | None]]) -> pa.Table:
    """The rows of all parts in the order of users."""
    filled = [(users, rows) for users, rows in parts if rows is not None]
    if len(filled) == 1:
        return filled[0][1]  # of a snapshot, or of a bucket in which nothing has changed
    order = np.argsort(np.concatenate([users for users, _ in filled]))
    return pa.concat_tables([rows for _, rows in filled]).take(pa.array(order))


def _read(file: Path, column: str) -> pa.ChunkedArray:
    with open_parquet(file) as opened:
        return opened.read([column]).column(column)


def _needed_for_elapsed_times(columns: Sequence[str]) -> list[str]:
    """Paths of the columns that with_elapsed_times needs for these columns."""
    is_needed = any(name in ("next_step", "next_step.gap_s") or name.startswith("next_step.since_") for name in columns)
    return ["last_gain_at_ms", _LATEST_MS] if is_needed else []


def with_elapsed_times(journeys: pa.Table, dataset: Dataset, as_of_ms: int) -> pa.Table:
    """Journeys with the times in next_step as of a later time: since the latest exposure, and since each gain.

    All else stays as it is until the user's journey changes. journeys: has memory.exposed_at_ms and last_gain_at_ms if
    next_step has such a time.
    """
    if "next_step" not in journeys.column_names:
        return journeys
    next_step = journeys.column("next_step").combine_chunks()
    values = {field.name: next_step.field(k) for k, field in enumerate(next_step.type)}
    as_of_U = np.full(len(journeys), as_of_ms)
    if "gap_s" in values:
        memory = journeys.column("memory").combine_chunks()
        latest_ms = memory.values.field("exposed_at_ms").take(pa.array(memory.offsets.to_numpy()[1:] - 1))
        values["gap_s"] = pa.array(gap_s(as_of_U, to_ints(latest_ms)))
    for gain in dataset.gain_names:
        if f"since_{gain}_s" in values:
            known_at_ms = pc.struct_field(journeys.column("last_gain_at_ms").combine_chunks(), gain)
            values[f"since_{gain}_s"] = since_s(as_of_U, filled_ints(known_at_ms, NEVER))
    changed = pa.StructArray.from_arrays(list(values.values()), list(values))
    return journeys.set_column(journeys.column_names.index("next_step"), "next_step", changed)

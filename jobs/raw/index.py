"""The raw index: the rows and fingerprint of each log file and day, stored without the rows.

It is the file `LAKE/<name>/raw_index/index.json`. From it a run knows which days' raw rows have changed without
reading the log: a file with the same size and times is not read again. A fingerprint covers the rows as they would be
published, the columns from lookups included, and does not depend on their order. So it also shows which days a
corrected lookup or new code changes, and which days stay the same.

A file that has been removed (rotated away, or not mounted for now) withdraws no rows: they stay in the lake, even where
other files add rows to their days. To withdraw rows, leave the file in place with its header alone.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.raw.log_calendar import LogCalendar
from lakehouse.lake import Lake
from lakehouse.storage.files import file_sha256, is_local, read_stored, write_whole
from schemas.dataset import Dataset
from schemas.days import UNDATED, day_plus
from schemas.errors import UserError
from schemas.quality import Quality
from schemas.tables import EXPOSURES, exposures

if TYPE_CHECKING:  # they load DuckDB and Arrow's functions, which take longer than a look at the index
    from jobs.raw.files import RawFiles
    from jobs.raw.fingerprints import Fingerprints

# The modules that decide what a row is read as: after a change in one of them the whole log is read again.
_READERS = (
    "contract_sql.py", "identity.py", "joins/lookups.py",
    "files.py", "fingerprints.py", "row_work.py", "rows.py", "sql/tree.py",
    *(f"reader/{name}.py" for name in (
        "decompress", "delimited", "fields", "json_lines", "open_file", "parquet_files",
        "read", "record_groups", "records", "source_files", "typed_rows", "values",
    )),
)  # fmt: skip
NO_DAY = ""  # the day of quarantined rows whose time cannot be read
# Stored under these names in the index and in the fingerprints of inputs since its first version.
_USABLE, _QUARANTINED, _OUTCOMES, _REMOVED = "usable", "refused", "outcomes", "gone"

RowsByDay = Mapping[str, list[int | str]]  # [number of rows, fingerprint] by day


@dataclass(frozen=True, slots=True)
class FileRows:
    """One file of the log or of outcomes. stamp: file_stamp when it was read.

    usable, quarantined, outcomes: its rows by day. Usable rows are exposures.
    """

    stamp: list[int | str]
    usable: RowsByDay
    quarantined: RowsByDay
    outcomes: RowsByDay = field(default_factory=dict)

    def by_kind(self) -> Iterator[tuple[str, str, list[int | str]]]:
        """The kind, the day and the number with the fingerprint of all rows."""
        for kind, by_day in ((_USABLE, self.usable), (_QUARANTINED, self.quarantined), (_OUTCOMES, self.outcomes)):
            for day in sorted(by_day):
                yield kind, day, by_day[day]

    @property
    def rows(self) -> int:
        return sum(int(rows) for _, _, (rows, _) in self.by_kind())

    def to_dict(self) -> dict[str, Any]:
        stored = {"stamp": self.stamp, _USABLE: self.usable, _QUARANTINED: self.quarantined}
        return stored | {_OUTCOMES: self.outcomes} if self.outcomes else stored

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "FileRows":
        return cls(stored["stamp"], stored[_USABLE], stored[_QUARANTINED], stored.get(_OUTCOMES, {}))


@dataclass(frozen=True)
class RawIndex:
    """All log files by name. read_with: changes with the lookups, the contract and the code that reads rows.

    removed: files that were read once and have been removed since.
    quality, published: decide which days the log has (LogCalendar); they are not stored.
    join_days: the most days between an exposure and its outcome's row. The rows of that number of days around a day are
    inputs of that day, since they decide which exposure an outcome belongs to.
    """

    read_with: str
    files: Mapping[str, FileRows]
    removed: Mapping[str, FileRows] = field(default_factory=dict)
    quality: Quality = field(default=Quality(), compare=False)
    published: frozenset[str] = field(default=frozenset(), compare=False)
    join_days: int = field(default=0, compare=False)

    @cached_property
    def calendar(self) -> LogCalendar:
        return LogCalendar(self._usable_rows_by_day, self.quality, self.published)

    @property
    def span(self) -> tuple[str, str] | None:
        """The first and the last day of the log with usable rows; None if there are no usable rows."""
        return self.calendar.span

    @property
    def log_days(self) -> tuple[str, str]:
        """The first and the last day that have come. Every stored index has usable rows: LogCalendar.days."""
        return self.calendar.days()

    @cached_property
    def _usable_rows_by_day(self) -> Counter[str]:
        by_day: Counter[str] = Counter()
        for file in self._files_ever_read().values():
            by_day.update({day: int(rows) for day, (rows, _) in file.usable.items()})
        return by_day

    def rows_by_partition(self) -> Counter[str]:
        """The number of rows of each day, usable or quarantined, and of UNDATED, in all files that were ever read."""
        by_partition: Counter[str] = Counter()
        for file in self._files_ever_read().values():
            for kind, day, (rows, _) in file.by_kind():
                by_partition[self._partition(kind, day)] += int(rows)
        return by_partition

    def _files_ever_read(self) -> dict[str, FileRows]:
        return {**self.files, **self.removed}

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self._files_ever_read().values())

    def inputs(self, day: str) -> dict[str, str]:
        """The inputs of a day's exposures and quarantine, or of the undated quarantine: a fingerprint for each file."""
        return self._inputs_by_day.get(day, {})

    @cached_property
    def _inputs_by_day(self) -> dict[str, dict[str, str]]:
        """Computed for all days in one pass: a run asks for every day of a history, and each may have its own file."""
        inputs: dict[str, dict[str, str]] = defaultdict(dict)
        for name, file in sorted(self._files_ever_read().items()):
            rows_by_partition = defaultdict(list)
            for kind, day, rows in file.by_kind():
                for partition in self._partitions_of(kind, day):
                    rows_by_partition[partition].append((kind, day, *rows))
            for partition, rows in rows_by_partition.items():
                inputs[partition][f"raw/{name}"] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:32]
        return inputs

    def _partition(self, kind: str, day: str) -> str:
        """The partition of rows of a day. Outside the log's days an exposure waits, and any other row is undated."""
        in_log = self.span and self.span[0] <= day <= self.span[1]
        return day if kind == _USABLE or in_log else UNDATED

    def _partitions_of(self, kind: str, day: str) -> set[str]:
        """The partitions that rows of a day are an input of."""
        partition = self._partition(kind, day)
        if kind == _QUARANTINED or not self.join_days or day == NO_DAY:
            return {partition}
        near_days = {day_plus(day, k) for k in range(-self.join_days, self.join_days + 1)}
        return {partition, *near_days} | (
            {UNDATED} if kind == _USABLE and near_days & self._undated_outcome_days else set()
        )

    @cached_property
    def _undated_outcome_days(self) -> set[str]:
        """The days outside the log's span on which there are outcomes."""
        days = {day for file in self._files_ever_read().values() for day in file.outcomes}
        return {day for day in days if self._partition(_OUTCOMES, day) == UNDATED}

    def days_read_for(self, days: Iterable[str]) -> set[str]:
        """The days whose rows decide what is published for these days, UNDATED if it is one of them."""
        requested = {*days}
        if not self.join_days:
            return requested
        dated = requested - {UNDATED} | (self._undated_outcome_days if UNDATED in requested else set())
        offsets = range(-self.join_days, self.join_days + 1)
        return {day_plus(day, k) for day in dated for k in offsets} | (requested & {UNDATED})

    def files_with(self, days: Iterable[str]) -> set[str]:
        """The names of the files with rows of these days."""
        return {path.removeprefix("raw/") for day in days for path in self.inputs(day)}

    def removed_files_with(self, day: str) -> list[str]:
        """The names of the removed files that had rows of this day."""
        return [name for name in self.removed if f"raw/{name}" in self.inputs(day)]

    def removed_exposure_days_near(self, name: str, day: str) -> set[str] | None:
        """The days of a removed file's exposures to which outcomes of `day` may belong.

        None if the file also had rows of `day` itself, or later outcomes, which may belong to its exposures.
        """
        days = set()
        for kind, row_day, _ in self.removed[name].by_kind():
            partition = self._partition(kind, row_day)
            if partition == day or (kind == _OUTCOMES and row_day > day and day in self._partitions_of(kind, row_day)):
                return None
            if kind == _USABLE and day in self._partitions_of(kind, row_day):
                days.add(row_day)
        return days

    def removed_outcome_rows(self, day: str) -> int:
        """The number of outcomes of this day, or without one (UNDATED), in removed files."""
        return sum(
            int(rows)
            for file in self.removed.values()
            for kind, row_day, (rows, _) in file.by_kind()
            if kind == _OUTCOMES and self._partition(kind, row_day) == day
        )

    def removed_gains(self, day: str) -> bool:
        """Whether removed files had exposures of this day, or outcomes that may belong to an exposure of it."""
        days = {day_plus(day, k) for k in range(self.join_days + 1)}
        return any(day in file.usable or days & file.outcomes.keys() for file in self.removed.values())

    def removed_usable_rows(self, day: str) -> int:
        """The number of usable rows of this day in removed files."""
        return sum(int(file.usable[day][0]) for file in self.removed.values() if day in file.usable)


def stored_index(lake: Lake, dataset: Dataset) -> RawIndex | None:
    """The index as it was last stored, or None if the log was never read into this lake."""

    def read(text: str) -> tuple[str, dict[str, FileRows], dict[str, FileRows]]:
        stored = json.loads(text)
        files, removed = (
            {name: FileRows.from_dict(file) for name, file in stored.get(key, {}).items()}
            for key in ("files", _REMOVED)
        )
        return stored["read_with"], files, removed

    try:
        read_with, files, removed = read_stored(
            lake.raw_index(dataset), read, "delete it, and run again; the whole log is then read again"
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    published = frozenset(lake.days(EXPOSURES, dataset))
    return RawIndex(read_with, files, removed, dataset.quality, published, join_days(dataset))


def store_index(lake: Lake, dataset: Dataset, index: RawIndex) -> None:
    content = {"read_with": index.read_with}
    for key, files in (("files", index.files), (_REMOVED, index.removed)):
        content[key] = {name: file.to_dict() for name, file in files.items()}
    write_whole(lake.raw_index(dataset), json.dumps(content, indent=1, sort_keys=True) + "\n")


def join_days(dataset: Dataset) -> int:
    """The most days by which an outcome's row can be later than its exposure."""
    return max((outcome.days_later for outcome in dataset.outcomes), default=0)


def event_views(dataset: Dataset) -> tuple[str, ...]:
    """The views whose files are in the index: the log and the files of outcomes. The others are lookups."""
    return (dataset.log.view, *(file.view for file in dataset.outcome_files))


def split_by_change(
    dataset: Dataset, files: Mapping[str, "RawFiles"], stored: RawIndex | None
) -> tuple[RawIndex, dict[str, Path]]:
    """The index without the log files that have changed or are new, and these files by name.

    Raises UserError if two log files in different folders have the same name, by which rows refer to their file.
    """
    groups = [files[view] for view in event_views(dataset)]
    paths = {name: path for group in groups for name, path in group.by_name.items()}
    if len(paths) < sum(len(group.paths) for group in groups):
        raise UserError(f"two log files of {dataset.name} have the same name: rename one")
    read_with = _read_with(dataset, files)
    valid = stored.files if stored and stored.read_with == read_with else {}
    unchanged = {
        name: valid[name] for name, path in paths.items() if name in valid and valid[name].stamp == file_stamp(path)
    }
    read_before = {**stored.removed, **stored.files} if stored else {}
    removed = {name: file for name, file in read_before.items() if name not in paths}
    none_read = RawIndex("", {}, quality=dataset.quality, join_days=join_days(dataset))
    index = replace(stored or none_read, read_with=read_with, files=unchanged)
    return replace(index, removed=removed), {name: path for name, path in paths.items() if name not in unchanged}


def with_files_added(index: RawIndex, stamps: Mapping[str, list[int | str]], fingerprints: "Fingerprints") -> RawIndex:
    """The index with the files of these stamps. fingerprints: of their rows."""
    kinds = (_USABLE, _QUARANTINED, _OUTCOMES)
    by_file: dict[str, dict[str, dict[str, list[int | str]]]] = {name: {k: {} for k in kinds} for name in stamps}
    for group, (rows, total, xor) in fingerprints.items():
        kind = _QUARANTINED if group.is_quarantined else _OUTCOMES if group.is_outcome else _USABLE
        by_file[group.file][kind][group.day or NO_DAY] = [rows, f"{total:016x}{xor:016x}"]
    added = {name: FileRows(stamps[name], *(by_file[name][kind] for kind in kinds)) for name in stamps}
    # A removed file with the same rows as an added one was renamed.
    added_rows = [list(file.by_kind()) for file in added.values()]
    removed = {name: file for name, file in index.removed.items() if list(file.by_kind()) not in added_rows}
    return replace(index, files=dict(sorted({**index.files, **added}.items())), removed=removed)


def file_stamp(path: Path) -> list[int | str]:
    """Size and times of a file, which change whenever its content may have changed; git uses the same ones.

    An object has one time, and a tag of its content.
    """
    status = path.stat()
    if not is_local(path):
        return [status.st_size, status.st_mtime_ns, path.content_tag()]  # type: ignore[attr-defined]  # of StorePath
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _read_with(dataset: Dataset, files: Mapping[str, "RawFiles"]) -> str:
    lookups = {
        name: file_stamp(path)
        for view, group in files.items()
        if view not in event_views(dataset)
        for name, path in group.by_name.items()
    }
    modules = [Path(__file__).parent / name for name in _READERS]
    modules.append(Path(exposures.__file__))
    code = [file_sha256(path) for path in modules]
    return hashlib.sha256(json.dumps([lookups, repr(dataset), code], sort_keys=True).encode()).hexdigest()[:32]

"""What each raw file of a log held when it was last read: rows and fingerprint by day, without the rows.

Kept as `LAKE/raw_index/dataset=<name>/index.json`. From it a run knows which days' raw rows have changed without
reading any: a file whose size and times are as they were is not read again. A day's fingerprint is over the rows as
they would be published, what the lookups bring included, in any order; so it also tells when a corrected lookup or
new code changes a day, and which days it leaves alone.

A file that is no longer there (rotated away, or not mounted just now) takes no rows back: they stay in the lake, also
where other files bring more rows of their days. Rows are withdrawn by leaving the file with its header alone.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from jobs.raw.files import RawFiles
from lakehouse.files import file_sha256
from lakehouse.lake import Lake
from lakehouse.staging import write_to_lake
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.errors import UserError
from schemas.tables import exposures

_READERS = ("exposures.py", "files.py", "lines.py")
_BELIEVED = 0.01
NO_DAY = ""  # of refused rows whose time cannot be read


@dataclass(frozen=True, slots=True)
class FileRows:
    """One log file. usable, refused: [rows, fingerprint] by day, of the rows that the rules keep or refuse."""

    stamp: list[int]
    usable: Mapping[str, list[int | str]]
    refused: Mapping[str, list[int | str]]

    @property
    def rows(self) -> int:
        return sum(int(rows) for by_day in (self.usable, self.refused) for rows, _ in by_day.values())


@dataclass(frozen=True)
class RawIndex:
    """All log files by name. read_with: changes with the lookups, the contract and the code that reads rows.

    gone: files that were read once and are no longer there.
    """

    read_with: str
    files: Mapping[str, FileRows]
    gone: Mapping[str, FileRows] = field(default_factory=dict)

    @cached_property
    def span(self) -> tuple[str, str] | None:
        """The first and the last day of the log; None where no row is usable. A refused row has no say in it."""
        days = self._usable_by_day
        return (min(days), max(days)) if days else None

    def has_come(self, day: str) -> bool:
        """Whether the log has got to that day: it has rows of it, or enough of later days to believe it empty.

        Enough: 1 % of a usual day. A single row of a clock that runs ahead says nothing about the days before it.
        """
        by_day = self._usable_by_day
        later = sum(rows for d, rows in by_day.items() if d > day)
        return bool(by_day[day] or (later and later >= _BELIEVED * median(by_day.values())))

    @cached_property
    def _usable_by_day(self) -> Counter[str]:
        by_day: Counter[str] = Counter()
        for file in self._all().values():
            by_day.update({day: int(rows) for day, (rows, _) in file.usable.items()})
        return by_day

    def _all(self) -> dict[str, FileRows]:
        return {**self.files, **self.gone}

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self._all().values())

    def inputs(self, day: str) -> dict[str, str]:
        """The inputs of a day's exposures and quarantine, or of the undated quarantine: a fingerprint a file."""
        return self._inputs_by_day.get(day, {})

    @cached_property
    def _inputs_by_day(self) -> dict[str, dict[str, str]]:
        """Of all days at once: a run asks for every day of a history, of which a log may have a file each."""
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for name, file in sorted(self._all().items()):
            held = defaultdict(list)
            for kind, by_day in (("usable", file.usable), ("refused", file.refused)):
                for day in sorted(by_day):
                    held[_belongs(kind, day, self.span)].append((kind, day, *by_day[day]))
            for day, rows in held.items():
                found[day][f"raw/{name}"] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:32]
        return found

    def files_of(self, days: Iterable[str]) -> set[str]:
        """The names of the files that hold rows of these days."""
        return {path.removeprefix("raw/") for day in days for path in self.inputs(day)}

    def gone_from(self, day: str) -> list[str]:
        """The files that held rows of this day and are no longer there."""
        return [name for name in self.gone if f"raw/{name}" in self.inputs(day)]

    def usable_gone(self, day: str) -> int:
        """How many rows of this day that are not refused these files held."""
        return sum(int(file.usable[day][0]) for file in self.gone.values() if day in file.usable)


def _belongs(kind: str, day: str, span: tuple[str, str] | None) -> str:
    """The partition that rows of a day go to: a refused row outside the log's days is undated."""
    return day if kind == "usable" or (span and span[0] <= day <= span[1]) else UNDATED


def stored_index(lake: Lake, dataset: Dataset) -> RawIndex | None:
    """The index as it was last stored, or None where the log was never read into this lake."""
    try:
        raw = json.loads(lake.raw_index(dataset).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    files, gone = ({name: FileRows(**file) for name, file in raw.get(key, {}).items()} for key in ("files", "gone"))
    return RawIndex(raw["read_with"], files, gone)


def store_index(lake: Lake, dataset: Dataset, index: RawIndex) -> None:
    write_to_lake(lake, lake.raw_index(dataset), json.dumps(asdict(index), indent=1, sort_keys=True) + "\n")


def split_by_change(
    dataset: Dataset, files: Mapping[str, RawFiles], known: RawIndex | None
) -> tuple[RawIndex, list[Path]]:
    """What is still true of the index, and the log files that must be read (again).

    A UserError where two log files in different folders share a name: rows are told apart by it.
    """
    log = files[dataset.log.view].paths
    if len({path.name for path in log}) < len(log):
        raise UserError(f"two log files of {dataset.name} have the same name: rename one")
    read_with = _read_with(dataset, files)
    kept = dict(known.files) if known and known.read_with == read_with else {}
    unchanged = {path.name: kept[path.name] for path in log
                 if path.name in kept and kept[path.name].stamp == stamp(path)}  # fmt: skip
    there = {path.name for path in log}
    read_before = {**known.gone, **known.files} if known else {}
    gone = {name: file for name, file in read_before.items() if name not in there}
    return RawIndex(read_with, unchanged, gone), [path for path in log if path.name not in unchanged]


def scanned(found: RawIndex, stamps: Mapping[str, list[int]], rows: Iterable[Mapping[str, Any]]) -> RawIndex:
    """The index with the files of these stamps added. rows: jobs.raw.exposures.rows_by_file of them, collected."""
    usable: dict[str, dict[str, list[int | str]]] = {name: {} for name in stamps}
    refused: dict[str, dict[str, list[int | str]]] = {name: {} for name in stamps}
    for row in rows:
        total = (row["high"] << 32) + row["low"]
        held: list[int | str] = [row["rows"], f"{total % 2**64:016x}{row['xor'] % 2**64:016x}"]
        (refused if row["refused"] else usable)[row["file"]][row["ds"] or NO_DAY] = held
    new = {name: FileRows(stamps[name], usable[name], refused[name]) for name in usable}
    # The same rows under another name: the file was renamed.
    held = [(file.usable, file.refused) for file in new.values()]
    gone = {name: file for name, file in found.gone.items() if (file.usable, file.refused) not in held}
    return RawIndex(found.read_with, dict(sorted({**found.files, **new}.items())), gone)


def stamp(path: Path) -> list[int]:
    """What changes whenever a file's content may have changed (as git sees it)."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _read_with(dataset: Dataset, files: Mapping[str, RawFiles]) -> str:
    lookups = {path.name: stamp(path) for view, group in files.items() if view != dataset.log.view
               for path in group.paths}  # fmt: skip
    here = Path(__file__)
    code = [file_sha256(path) for path in (*map(here.with_name, _READERS), Path(exposures.__file__))]
    return hashlib.sha256(json.dumps([lookups, repr(dataset), code], sort_keys=True).encode()).hexdigest()[:32]

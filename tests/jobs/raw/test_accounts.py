"""Rows delivered = exposures + duplicates + quarantined + waiting, over any sequence of deliveries and runs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.raw import index as index_module
from jobs.raw.accounts import LogAccounts, log_accounts, waiting_line
from jobs.raw.build_plan import BuildPlan, DayRequest
from jobs.raw.files import RawFiles
from jobs.raw.fingerprints import Fingerprint, Fingerprints, RowGroup, combined
from jobs.raw.index import RawIndex, split_by_change, with_files_added
from lakehouse.manifest import Manifest
from schemas.dataset import Dataset, get_dataset
from schemas.days import UNDATED, day_plus, days_between
from schemas.errors import NothingToDo, UserError
from schemas.tables import EXPOSURES, QUARANTINE

CRITEO = get_dataset("criteo")
FIRST = "2024-05-01"
MAIN_DAYS = [day_plus(FIRST, k) for k in range(3)]
EARLIER, LATER = day_plus(FIRST, -5), day_plus(FIRST, 20)
DAYS = [*MAIN_DAYS, EARLIER, LATER, "1970-01-01", "2031-01-01"]  # the last two are beyond a gap


class Row(NamedTuple):
    """A raw row. day: "" if its time cannot be read. key: rows of a day with one key are duplicates."""

    day: str
    key: int
    usable: bool


@dataclass
class PlainPartition:
    manifest: Manifest | None = None


@dataclass
class PlainLake:
    """A lake in memory, into which days are published as jobs.raw.publish does it.

    exposures: the keys of each day. quarantine: the rows of each partition, with their files."""

    partitions: dict[tuple[str, str], PlainPartition] = field(default_factory=dict)
    exposures: dict[str, set[int]] = field(default_factory=dict)
    quarantine: dict[str, list[tuple[str, Row]]] = field(default_factory=dict)

    def __getitem__(self, coordinates: tuple[str, Dataset, str]) -> PlainPartition:
        table, _, day = coordinates
        return self.partitions.get((table, day), PlainPartition())

    def days(self, table: str, _: Dataset) -> list[str]:
        return sorted(day for name, day in self.partitions if name == table and day != UNDATED)

    def manifests(self, _: Dataset, tables: Iterable[str]) -> dict[str, dict[str, Manifest]]:
        return {
            table: {day: p.manifest for (name, day), p in self.partitions.items() if name == table and p.manifest}
            for table in tables
        }

    def manifest(self, table: str, day: str) -> Manifest | None:
        return self.partitions[table, day].manifest if (table, day) in self.partitions else None

    def publish_log(self, index: RawIndex, files: Mapping[str, Iterable[Row]], days: Iterable[str]) -> None:
        """files: the present files of the log."""
        rows = [(name, row) for name, content in files.items() for row in content]
        for day in days:
            present = [(name, row) for name, row in rows if partition_of(index, row) == day]
            usable = [row.key for _, row in present if row.usable]
            quarantined = [(name, row) for name, row in present if not row.usable]
            if index.removed_files_with(day):
                quarantined += [(name, row) for name, row in self.quarantine.get(day, []) if name in index.removed]
                keys = {*usable} | self.exposures.get(day, set())
            else:
                keys = {*usable}
            self.quarantine[day] = quarantined
            self._publish(QUARANTINE, day, len(quarantined), index, {})
            if day != UNDATED:
                duplicates = len(usable) + index.removed_usable_rows(day) - len(keys)
                self.exposures[day] = keys
                self._publish(EXPOSURES, day, len(keys), index, {"duplicates": duplicates})

    def _publish(self, table: str, day: str, rows: int, index: RawIndex, counts: dict[str, int]) -> None:
        manifest = Manifest(table, "log", day, rows, "", index.inputs(day), "", None, counts)
        self.partitions[table, day] = PlainPartition(manifest)


def partition_of(index: RawIndex, row: Row) -> str | None:
    """The partition of a row; None for a usable row outside the log's span, which is not published."""
    if index.span and index.span[0] <= row.day <= index.span[1]:
        return row.day
    return None if row.usable else UNDATED


def file_fingerprints(name: str, rows: Iterable[Row]) -> Fingerprints:
    """The fingerprints of a file's rows, by day, as jobs.raw.fingerprints computes them."""
    by_day: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        by_day.setdefault((row.day, row.usable), []).append(row)
    return {
        RowGroup(name, day or None, not usable, False): Fingerprint(
            len(group), sum(hash((row.key, 7)) % 2**40 for row in group),
            hash(tuple(sorted(Counter(group).items()))) % 2**64,
        )
        for (day, usable), group in by_day.items()
    }  # fmt: skip


class Log:
    """A raw log and its lake, with the real functions, except for the reading of rows."""

    def __init__(self) -> None:
        self.lake = PlainLake()
        self.files: dict[str, list[Row]] = {}  # the folder of raw files
        self.read: dict[str, list[Row]] = {}  # each file that was ever read, as it was read last
        self.versions: Counter[str] = Counter()
        self.stored: RawIndex | None = None

    def deliver(self, name: str, rows: list[Row] | None) -> None:
        """A new or changed file; None: the file is removed."""
        self.versions[name] += 1
        self.files.pop(name, None)
        if rows is not None:
            self.files[name] = rows

    def run(self, request: DayRequest) -> list[str]:
        """The days that were built."""
        stored = self._stored_as_loaded()
        paths = [Path(name) for name in sorted(self.files)]
        index, changed = split_by_change(CRITEO, {"log": RawFiles(CRITEO.log, tuple(paths))}, stored)
        names = list(changed)
        stamps = {name: [self.versions[name]] for name in names}
        index = with_files_added(index, stamps, combined(file_fingerprints(name, self.files[name]) for name in names))
        if index.span is None:
            return []
        self.stored = index
        self.read |= {name: self.files[name] for name in names}
        changed_contents = [Counter(self.files[name]) for name in names]
        for name in self.read.keys() - self.files.keys():
            if Counter(self.read[name]) in changed_contents:  # it was renamed
                del self.read[name]
        try:
            built = BuildPlan(self.lake, CRITEO, index, request).days_to_build()  # type: ignore[arg-type]
        except (UserError, NothingToDo):
            return []
        self.lake.publish_log(index, self.files, built)
        return built

    def _stored_as_loaded(self) -> RawIndex | None:
        if self.stored is None:
            return None
        published = frozenset(self.lake.days(EXPOSURES, CRITEO))
        return RawIndex(self.stored.read_with, self.stored.files, self.stored.removed, CRITEO.quality, published)

    def accounts(self) -> LogAccounts:
        index = self._stored_as_loaded()
        return log_accounts(index, self.lake.manifest) if index else LogAccounts(0)


@pytest.fixture(autouse=True, scope="module")
def _stamps_without_files():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "_read_with", lambda *_: "r")
        yield


rows = st.builds(Row, st.sampled_from(DAYS + MAIN_DAYS * 5), st.integers(0, 3), st.just(True)) | st.builds(
    Row, st.sampled_from(["", *DAYS]), st.integers(0, 3), st.just(False)
)
deliveries = st.tuples(st.sampled_from("abc"), st.none() | st.lists(rows, max_size=8))
days = st.sampled_from(DAYS)
requests = (
    st.just(DayRequest())
    | st.builds(DayRequest, first=st.none() | days, last=st.none() | days)
    | st.builds(DayRequest, up_to=days, accept_few_rows=st.booleans())
)


def check(log: Log) -> None:
    """The accounts balance, and each row is where they say, counted from the rows themselves."""
    accounts, index = log.accounts(), log._stored_as_loaded()
    delivered = [row for content in log.read.values() for row in content] if index else []
    assert accounts.delivered == len(delivered)
    assert accounts.unexplained == 0
    assert min([accounts.exposures, accounts.duplicates, accounts.quarantined, *accounts.waiting.values()]) >= 0
    if index is None:
        return
    partitions = {partition_of(index, row) or row.day for row in delivered}
    for day in partitions:
        own_rows = [row for row in delivered if (partition_of(index, row) or row.day) == day]
        if day in accounts.waiting:
            assert accounts.waiting[day] == len(own_rows)
            continue
        assert {row.key for row in own_rows if row.usable} == log.lake.exposures.get(day, set())
        assert Counter(row for _, row in log.lake.quarantine[day]) == Counter(row for row in own_rows if not row.usable)
    assert accounts.waiting.keys() <= partitions


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(deliveries | requests, min_size=2, max_size=14))
def test_no_row_is_lost_over_any_sequence_of_deliveries_and_runs(steps):
    log = Log()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "file_stamp", lambda path: [log.versions[path.name]])
        for step in steps:
            if isinstance(step, DayRequest):
                built = log.run(step)
                assert len(built) <= len(days_between(EARLIER, LATER)) + 1  # no run crosses a gap; UNDATED
                check(log)
            else:
                log.deliver(*step)
        log.run(DayRequest())
        check(log)
        line = waiting_line(CRITEO, log._stored_as_loaded(), log.accounts().waiting) if log.stored else ""
        assert bool(line) == bool(log.accounts().waiting)
        assert "\n" not in line

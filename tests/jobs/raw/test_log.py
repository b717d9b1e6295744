"""The tables of a log do not depend on how its files are split, nor on the number of partitions.

The tasks run in this process; what Spark's shuffle does is a dictionary.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from event_logs import EVENTS
from raw_logs import criteo_row, header

from jobs.raw import rows as rows_module
from jobs.raw.bucket_tables import BucketTables, JoinedRows
from jobs.raw.files import RawFiles, find_raw_files
from jobs.raw.fingerprints import Fingerprint, RowGroup, combined
from jobs.raw.index import event_views
from jobs.raw.joins.outcomes import DUPLICATE, JOINED_ROW
from jobs.raw.log import COUNT, USABLE, NeededDays, Partitions, RawLog, ReadLog, usable_rows_by_day
from jobs.raw.reader import read
from jobs.raw.rows import grouped, joined, read_tasks
from jobs.spark.blocks import Block
from jobs.spark.buckets import StoredFile, files_by_day
from lakehouse.lake import Lake
from lakehouse.storage.delta_table import DataFile
from schemas.dataset import Dataset, get_dataset
from schemas.days import UNDATED
from schemas.errors import UserError
from schemas.tables.exposures import matches

CRITEO = get_dataset("criteo")
DAY_S = 86_400
DAYS = [f"2017-01-0{k}" for k in range(1, 5)]
EVENT_DAYS = [f"2024-05-0{k}" for k in range(1, 4)]
MIDNIGHT_MS = 1_714_521_600_000  # 2024-05-01 00:00 UTC
Pairs = Iterator[tuple[int, Block]]


def shuffled(pairs: Pairs) -> dict[int, list[tuple[int, Block]]]:
    partitions = defaultdict(list)
    for partition, block in pairs:
        partitions[partition].append((partition, block))
    return partitions


def stored_tables(
    lake: Lake, dataset: Dataset, files: dict[str, RawFiles], days: list[str], span: tuple[str, str], groups: int,
    published: dict[str, dict[str, tuple[DataFile, ...]]] | None = None, removed: tuple[str, ...] = (),
) -> tuple[list[StoredFile], Counter[tuple[str, str]], object]:  # fmt: skip
    """The stored files, the numbers of rows, and the fingerprints. published: files of both tables, by day."""
    published = published or {"exposures": {}, "quarantine": {}}
    exposures_folder = str(lake.table("exposures", dataset))
    partitions, tasks = Partitions(8, groups), read_tasks(dataset, files)
    reader = ReadLog(dataset, tasks, {}, partitions, None)
    sent = shuffled(pair for number in range(len(tasks)) for pair in reader(number))
    fingerprints = combined(block.content for _, block in sent.pop(partitions.number, ()))
    for match in range(len(matches(dataset))):
        join = JoinedRows(dataset, match, partitions, exposures_folder, {} if match else published["exposures"])
        sent = shuffled(pair for partition in range(partitions.number) for pair in join(partition, sent[partition]))
    if dataset.outcomes:
        published = published | {"exposures": {}}
    folders = {table: str(lake.table(table, dataset)) for table in ("exposures", "quarantine")}
    task = BucketTables(dataset, folders, days, span, published, removed, {}, partitions)
    results = [result for number in range(partitions.number) for result in task(number, sent[number])]
    counts = sum((result for result in results if isinstance(result, Counter)), Counter())
    return sorted(r for r in results if isinstance(r, StoredFile)), counts, fingerprints


@pytest.fixture
def criteo_files(tmp_path):
    rows = [criteo_row(uid=k % 50, timestamp=k * 1500, campaign=k, click=k % 2) for k in range(200)]
    lines = [header(CRITEO.log), *rows, *rows[:30], "x\ty", criteo_row(timestamp=-1), *rows[90:95]]
    (tmp_path / "criteo_attribution_dataset.tsv").write_text("\n".join(lines) + "\n")
    return find_raw_files(CRITEO, tmp_path)


@pytest.fixture
def events_files(tmp_path):
    kinds = ["view", "view", "addtocart", "transaction", "hover"]
    rows = [f"{MIDNIGHT_MS + k * 997_000},{k % 7},{kinds[k * 3 % 5]},{k % 3}," for k in range(250)]
    (tmp_path / "events.csv").write_text("\n".join([header(EVENTS.log), *rows, *rows[:40], "noon,4,view,10,"]) + "\n")
    return find_raw_files(EVENTS, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("split_bytes", [300, 1500])
@pytest.mark.parametrize("day_groups", [1, 3])
@pytest.mark.parametrize("name", ["criteo", "events"])
def test_splits_and_partitions_do_not_change_a_file(request, tmp_path, monkeypatch, name, day_groups, split_bytes):
    dataset, days = (CRITEO, DAYS) if name == "criteo" else (EVENTS, EVENT_DAYS)
    files = request.getfixturevalue(f"{name}_files")
    span, all_days = (days[0], days[-1]), [*days, UNDATED]
    expected = stored_tables(Lake(tmp_path / "one"), dataset, files, all_days, span, 1)
    monkeypatch.setattr(rows_module, "SPLIT_SIZE", split_bytes)
    monkeypatch.setattr(rows_module, "plan_splits", partial(read.plan_splits, split_size=split_bytes))
    monkeypatch.setattr(rows_module, "joined", partial(joined, largest=4 * split_bytes))
    assert len(read_tasks(dataset, files)) > 3
    result = stored_tables(Lake(tmp_path / "other"), dataset, files, all_days, span, day_groups)
    assert result == expected
    stored, counts, _ = expected
    rows = {table: sum(file.rows for t, _, file in stored if t == table) for table in ("exposures", "quarantine")}
    assert {day for table, day, _ in stored if table == "exposures"} == set(days)
    usable = sum(count for (kind, _), count in counts.items() if kind == USABLE)
    if dataset is CRITEO:
        assert (rows["exposures"], usable, rows["quarantine"]) == (200, 235, 2)
    else:
        outcomes = sum(count for (kind, _), count in counts.items() if kind in (JOINED_ROW, DUPLICATE))
        assert usable + outcomes + rows["quarantine"] == 291
        assert min(outcomes, rows["quarantine"], usable - rows["exposures"]) > 5


@pytest.mark.slow
@pytest.mark.parametrize("day_groups", [1, 3])
@pytest.mark.parametrize("name", ["criteo", "events"])
def test_rows_of_removed_files_are_published_again(request, tmp_path, name, day_groups):
    """Published rows alone give the same files; with the file of which they are copies they are duplicates."""
    dataset, days = (CRITEO, DAYS) if name == "criteo" else (EVENTS, EVENT_DAYS)
    files, lake = request.getfixturevalue(f"{name}_files"), Lake(tmp_path / "lake")
    (log,) = files[dataset.log.view].by_name
    span, all_days = (days[0], days[-1]), [*days, UNDATED]
    stored, _, _ = stored_tables(lake, dataset, files, all_days, span, 1)
    published = {"exposures": {}, "quarantine": {}} | files_by_day(stored)
    without_log = {view: group for view, group in files.items() if view not in event_views(dataset)}
    rebuilt, counts, _ = stored_tables(lake, dataset, without_log, all_days, span, day_groups, published, (log,))
    assert (rebuilt, counts) == (stored, Counter())
    other_file, _, _ = stored_tables(lake, dataset, without_log, all_days, span, day_groups, published, ("other.csv",))
    assert {file.table for file in other_file} == {"exposures"}
    copies, _, _ = stored_tables(lake, dataset, files, all_days, span, day_groups, published)
    assert copies == stored


def test_only_needed_rows_are_sent(criteo_files):
    partitions = Partitions(8, 1)
    needed = NeededDays(frozenset([DAYS[1], UNDATED]), (DAYS[0], DAYS[-1]))
    reader = ReadLog(CRITEO, read_tasks(CRITEO, criteo_files), {}, partitions, needed)
    counts = sum((block.content for _, block in reader(0) if block.kind == COUNT), Counter())
    assert {day for _, day in counts} == {DAYS[1]}


def fingerprints_of(**rows: int):
    kinds = {"usable": (False, False), "quarantined": (True, False), "outcomes": (False, True)}
    return {RowGroup("a", "2024-05-01", *kinds[kind]): Fingerprint(number, 1, 1) for kind, number in rows.items()}


@pytest.mark.parametrize(
    ("rows", "reasons", "problem"),
    [
        ({"quarantined": 3}, {"unknown user": 1, "is_click is neither 0 nor 1": 2},
         "3 rows in quarantine and no other, most often because: is_click is neither 0 nor 1"),
        ({"outcomes": 2}, {}, "it has 2 outcomes and no exposure"),
        ({}, {}, "it is empty"),
    ],
)  # fmt: skip
def test_a_log_without_an_exposure_is_an_error_that_says_why(rows, reasons, problem):
    with pytest.raises(UserError, match=problem):
        usable_rows_by_day(fingerprints_of(**rows), lambda: Counter(reasons))


def test_only_exposures_count_for_the_days_of_a_log():
    rows = fingerprints_of(usable=4, quarantined=2, outcomes=1)
    assert usable_rows_by_day(rows, Counter) == {"2024-05-01": 4}


@pytest.fixture
def log(monkeypatch):
    """A log that keeps the names of the files of each read."""

    def read_blocks(self, names, needed):
        self.reads.append(sorted(names))
        return object()

    monkeypatch.setattr(RawLog, "_read", read_blocks)
    paths = tuple(Path(f"/raw/{name}.tsv") for name in "abc")
    log = RawLog(None, CRITEO, {CRITEO.log.view: RawFiles(CRITEO.log, paths)}, 2)
    log.reads = []
    return log


def test_files_that_were_read_are_not_read_again(log):
    blocks = log.blocks({"a.tsv", "b.tsv"})
    assert log.blocks({"b.tsv"}, NeededDays(frozenset(), ("", ""))) is blocks
    assert log.blocks(set()) is blocks
    assert log.reads == [["a.tsv", "b.tsv"]]


def test_some_rows_of_files_do_not_count_as_all_of_them(log):
    filtered = log.blocks({"a.tsv"}, NeededDays(frozenset(), ("", "")))
    assert log.blocks({"a.tsv"}) is not filtered
    assert log.reads == [["a.tsv"], ["a.tsv"]]


@pytest.mark.parametrize(
    ("sizes", "groups"), [([], []), ([9], [[9]]), ([2, 3, 4, 1], [[2, 3], [4, 1]]), ([5, 9, 1], [[5], [9], [1]])]
)
def test_small_files_share_a_task(criteo_files, sizes, groups):
    (task,) = read_tasks(CRITEO, {view: criteo_files[view] for view in event_views(CRITEO)})
    splits = [read.Split(task.splits[0].source, 0, None, size) for size in sizes]
    assert [[split.size for split in group] for group in grouped(splits, 5)] == groups

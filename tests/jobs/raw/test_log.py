"""A run reads each log file once and uses the cached rows after that."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.raw import log as log_module
from jobs.raw.files import RawFiles
from jobs.raw.log import RawLog
from schemas.dataset import get_dataset


class CachedRows:
    is_cached = True

    def persist(self, _):
        return self

    def unpersist(self):
        self.is_cached = False


@pytest.fixture
def reads(monkeypatch):
    """The names of the log files of each read."""
    names: list[list[str]] = []

    def read_rows(_, dataset, files):
        names.append([path.name for path in files[dataset.log.view].paths])
        return SimpleNamespace()

    monkeypatch.setattr(log_module, "read_rows", read_rows)
    monkeypatch.setattr(log_module, "with_hashes", lambda _: CachedRows())
    return names


@pytest.fixture
def log():
    dataset = get_dataset("criteo")
    paths = tuple(Path(f"/raw/{name}.tsv") for name in "abc")
    return RawLog(None, dataset, {dataset.log.view: RawFiles(dataset.log, paths)})


def test_files_that_are_cached_are_not_read_again(reads, log):
    rows = log.rows({"a.tsv", "b.tsv"})
    assert log.rows({"b.tsv"}) is rows
    assert log.rows(set()) is rows
    assert reads == [["a.tsv", "b.tsv"]]


def test_files_that_are_not_cached_replace_the_cached_ones(reads, log):
    first = log.rows({"a.tsv"})
    second = log.rows({"a.tsv", "c.tsv"})
    assert reads == [["a.tsv"], ["a.tsv", "c.tsv"]]
    assert (first.is_cached, second.is_cached) == (False, True)


def test_without_names_the_first_file_is_read_for_its_columns(reads, log):
    log.rows(set())
    assert reads == [["a.tsv"]]

"""A run reads a log file once, for all that it makes of it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs import build_exposures
from jobs.build_exposures import RawLog
from jobs.raw.files import RawFiles
from schemas.dataset import get_dataset


class Rows:
    kept = True

    def persist(self, _):
        return self

    def unpersist(self):
        self.kept = False


@pytest.fixture
def read(monkeypatch):
    """The names of the files of each reading."""
    found: list[list[str]] = []
    monkeypatch.setattr(build_exposures, "read_raw", lambda _, files: found.append([path.name for path in files.paths]))
    monkeypatch.setattr(build_exposures, "with_reason", lambda *_: SimpleNamespace())
    monkeypatch.setattr(build_exposures, "to_keep", lambda _: Rows())
    return found


@pytest.fixture
def log():
    dataset = get_dataset("criteo")
    paths = tuple(Path(f"/raw/{name}.tsv") for name in "abc")
    return RawLog(None, dataset, {dataset.log.view: RawFiles(dataset.log, paths)})


def test_what_was_read_is_not_read_again(read, log):
    both = log.rows({"a.tsv", "b.tsv"})
    assert log.rows({"b.tsv"}) is both
    assert log.rows(set()) is both
    assert read == [["a.tsv", "b.tsv"]]


def test_files_that_were_not_read_take_the_place_of_those_that_were(read, log):
    first = log.rows({"a.tsv"})
    second = log.rows({"a.tsv", "c.tsv"})
    assert read == [["a.tsv"], ["a.tsv", "c.tsv"]]
    assert (first.kept, second.kept) == (False, True)


def test_where_no_file_is_asked_for_the_first_stands_for_its_columns(read, log):
    log.rows(set())
    assert read == [["a.tsv"]]

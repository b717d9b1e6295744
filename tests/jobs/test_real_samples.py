"""Real logs, if they are on this machine: every raw row has one fate, and no user is lost."""

import gzip
from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pytest
from fates import EXPOSURE, FATE, QUARANTINED, with_fate

from jobs.raw.exposures import usable_rows
from jobs.raw.files import find_raw_files
from jobs.raw.log_calendar import LogCalendar
from jobs.raw.row_work import DS
from jobs.raw.rows import read_rows
from schemas.dataset import get_dataset

pytestmark = pytest.mark.slow


def raw_users(path: Path, separator: str, column: str) -> list[str]:
    """The user of every row of a raw log file, read the plain way."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        position = next(lines).rstrip("\n").split(separator).index(column)
        return [line.rstrip("\n").split(separator)[position] for line in lines]


def test_a_real_log_loses_neither_rows_nor_users(sample):
    name, folder = sample
    dataset = get_dataset(name)
    files = find_raw_files(dataset, folder)
    user_column = "uid" if name == "criteo" else "user_id"
    users = [u for path in files["log"].paths for u in raw_users(path, dataset.log.separator, user_column)]
    rows = read_rows(dataset, files)
    fates = Counter(row[FATE] for row in with_fate(rows, dataset))
    assert fates.total() == len(users) > 80_000
    assert fates[QUARANTINED] == 0  # a rule that quarantines rows of a published log is wrong
    assert fates[EXPOSURE] > 0.999 * len(users)
    assert pc.count_distinct(usable_rows(rows, dataset).column("user_id")).as_py() == len(set(users))
    by_day = Counter(rows.column(DS).to_pylist())
    days = LogCalendar(by_day, dataset.quality).days()
    assert days == {"kuairand": ("2022-04-22", "2022-05-08"), "criteo": ("2017-01-01", "2017-01-02")}[name]

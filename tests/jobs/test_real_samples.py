"""Real logs, where they lie beside the checkout: every raw row has one fate, and nobody is lost."""

import gzip
from pathlib import Path

import pytest
from fates import FATE, KEPT, REFUSED, with_fate
from pyspark.sql import functions as F

from jobs.raw.exposures import days_of, log_span, with_reason
from jobs.raw.files import find_raw_files, read_raw
from schemas.dataset import get_dataset

pytestmark = pytest.mark.slow


def raw_users(path: Path, separator: str, column: str) -> list[str]:
    """The user of every row of a raw log file, read the plain way."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        at = next(lines).rstrip("\n").split(separator).index(column)
        return [line.rstrip("\n").split(separator)[at] for line in lines]


def test_a_real_log_loses_neither_rows_nor_users(spark, sample):
    name, folder = sample
    dataset = get_dataset(name)
    files = find_raw_files(dataset, folder)
    user_column = "uid" if name == "criteo" else "user_id"
    users = [u for path in files["log"].paths for u in raw_users(path, dataset.log.separator, user_column)]
    rows = with_fate(
        with_reason(spark, dataset, {view: read_raw(spark, f) for view, f in files.items()}), dataset
    ).persist()
    fates = {row[FATE]: row["count"] for row in rows.groupBy(FATE).count().collect()}
    assert sum(fates.values()) == len(users) > 80_000
    assert fates.get(REFUSED, 0) == 0  # a rule that refuses rows of a published log is wrong
    assert fates[KEPT] > 0.999 * len(users)
    kept = rows.where(F.col(FATE) == KEPT)
    assert kept.select("user_id").distinct().count() == len(set(users))
    first, last = days_of(rows.agg(*log_span()).first(), rows)
    assert (first, last) == {"kuairand": ("2022-04-22", "2022-05-08"), "criteo": ("2017-01-01", "2017-01-02")}[name]
    rows.unpersist()

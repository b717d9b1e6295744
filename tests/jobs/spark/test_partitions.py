"""All days of a table are published or none; equal rows give equal files, whatever the order of the tasks."""

from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.spark import partitions
from jobs.spark.buckets import BucketWriter, StoredFile, files_by_day
from jobs.spark.partitions import commit_built_days, day_chunks
from lakehouse.lake import Lake
from lakehouse.storage.delta_table import DataFile
from schemas.contract import Column, Table
from schemas.dataset import get_dataset

DAYS = ["2022-04-22", "2022-04-23"]
UNPUBLISHED = dict.fromkeys(DAYS, ())  # the files of days that are not published
TABLE = Table("squares", "A user, a square.", (Column("user_id", "bigint", ""), Column("square", "bigint", "")), ())
KUAIRAND = get_dataset("kuairand")
BUCKETS = 3


def stored_squares(lake: Lake, users: int, days: list[str]) -> list[StoredFile]:
    """A user is in the bucket, and on the day, of its number."""
    stored = []
    for bucket in range(BUCKETS):
        with BucketWriter(TABLE, str(lake.table("squares", KUAIRAND)), bucket) as writer:
            for k, day in enumerate(days):
                user = [u for u in range(users) if u % BUCKETS == bucket and u % len(days) == k]
                rows = {"ds": [day] * len(user), "square": [u * u for u in user], "user_id": user}
                writer.add(pa.table(rows, pa.schema([("ds", "string"), ("square", "int64"), ("user_id", "int64")])))
        stored += writer.stored
    return stored


def publish(lake: Lake, stored: list[StoredFile]):
    files = files_by_day(stored).get("squares", {})
    return commit_built_days(
        lake, TABLE, KUAIRAND, DAYS, files, inputs=lambda day: {"of": day}, replaces=UNPUBLISHED
    )  # fmt: skip


def test_what_workers_store_has_one_fingerprint_whatever_the_order_of_the_tasks(tmp_path):
    manifests = []
    for seed in (1, 2):
        lake = Lake(tmp_path / str(seed))
        stored = stored_squares(lake, 300, DAYS)
        Random(seed).shuffle(stored)
        manifests.append(publish(lake, stored))
    assert manifests[0] == manifests[1]
    for k, day in enumerate(DAYS):
        users = [pq.read_table(file).column("user_id").to_pylist() for file in lake["squares", "kuairand", day].files()]
        # Training draws windows by their places in the files, one after another: their order is part of the content.
        assert users == [[u for u in range(300) if u % BUCKETS == bucket and u % 2 == k] for bucket in range(BUCKETS)]
        assert (manifests[0][day].rows, manifests[0][day].inputs) == (150, {"of": day})


def test_a_row_that_belongs_to_no_published_day_is_an_error(tmp_path):
    lake = Lake(tmp_path)
    stored = stored_squares(lake, 3, [*DAYS, "2022-04-24"])
    with pytest.raises(ValueError, match="squares of kuairand: rows of 2022-04-24 have no day to go to"):
        publish(lake, stored)
    assert lake.days("squares", "kuairand") == []


def test_a_day_without_rows_is_empty_not_absent(tmp_path):
    lake = Lake(tmp_path)
    assert [manifest.rows for manifest in publish(lake, []).values()] == [0, 0]
    assert lake.days("squares", "kuairand") == DAYS


@pytest.mark.parametrize(
    ("rows", "chunks"),
    [([], []), ([3, 4, 1, 9, 1], [[0], [1, 2], [3], [4]]), ([1, 1, 1, 1], [[0, 1, 2], [3]]), ([0, 5], [[0, 1]])],
)
def test_days_are_in_chunks_of_a_few_days_and_of_rows_that_fit_into_the_memory(monkeypatch, rows, chunks):
    monkeypatch.setattr(partitions, "_ROWS_PER_CHUNK", 5)
    monkeypatch.setattr(partitions, "DAYS_PER_WRITE", 3)
    files = {str(day): (DataFile("part-0", 1, number), DataFile("part-1", 1, 0)) for day, number in enumerate(rows)}
    assert day_chunks(files) == [list(map(str, days)) for days in chunks]

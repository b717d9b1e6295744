"""All days of a table are published or none; equal rows give equal files, whatever the parallelism."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.spark.partitions import FILES_PER_DAY, publish_days
from jobs.spark.worker_tables import WorkerTable
from lakehouse.lake import Lake
from schemas.contract import Column, Table
from schemas.dataset import get_dataset

DAYS = ["2022-04-22", "2022-04-23"]
UNPUBLISHED = dict.fromkeys(DAYS, ())  # the files of days that are not published
TABLE = Table("squares", "A user, a square.", (Column("user_id", "bigint", ""), Column("square", "bigint", "")), ())

KUAIRAND = get_dataset("kuairand")


def squares(spark, users: int, days: list[str], parts: int) -> WorkerTable:
    def compute(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
        for batch in batches:
            user = batch.column("user_id")
            yield pa.table({"ds": batch.column("ds"), "square": pa.compute.multiply(user, user), "user_id": user})

    facts = spark.createDataFrame(
        [(user, days[user % len(days)]) for user in range(users)], "user_id bigint, ds string"
    )
    return WorkerTable(facts.repartition(parts), "user_id", ("user_id",), compute, f"{TABLE.ddl}, ds string")


def test_what_workers_write_has_one_fingerprint_whatever_the_parallelism(spark, tmp_path):
    manifests, users_by_file = [], []
    for parts in (1, 7):
        lake = Lake(tmp_path / str(parts))
        rows = squares(spark, 300, DAYS, parts)
        manifests.append(
            publish_days(spark, rows, lake, TABLE, KUAIRAND, DAYS, inputs=lambda day: {"of": day}, replaces=UNPUBLISHED)
        )
        for day, manifest in manifests[-1].items():
            files = lake["squares", "kuairand", day].files()
            assert len(files) == FILES_PER_DAY
            users = [pq.read_table(file).column("user_id").to_pylist() for file in files]
            assert all(users_of_file == sorted(users_of_file) for users_of_file in users)
            assert sorted(user for users_of_file in users for user in users_of_file) == [
                user for user in range(300) if DAYS[user % 2] == day
            ]
            assert manifest.rows == 150
            assert manifest.inputs == {"of": day}
            users_by_file.append(users)
    assert manifests[0] == manifests[1]
    # Training draws windows by their places in the files, one after another: their order is part of the content.
    assert users_by_file[:2] == users_by_file[2:]


@pytest.mark.parametrize("day", [None, "2022-04-24"])
def test_a_row_that_belongs_to_no_published_day_is_an_error(spark, tmp_path, day):
    lake, rows = Lake(tmp_path), squares(spark, 3, [*DAYS, day], 1)
    with pytest.raises(ValueError, match=f"squares of kuairand: rows of {day} have no day to go to"):
        publish_days(spark, rows, lake, TABLE, KUAIRAND, DAYS, inputs=lambda _: {}, replaces=UNPUBLISHED)
    assert lake.days("squares", "kuairand") == []


def test_a_day_without_rows_is_empty_not_absent(spark, tmp_path):
    lake = Lake(tmp_path)
    published = publish_days(
        spark, squares(spark, 0, DAYS, 1), lake, TABLE, KUAIRAND, DAYS, inputs=lambda _: {}, replaces=UNPUBLISHED
    )
    assert [manifest.rows for manifest in published.values()] == [0, 0]
    assert lake.days("squares", "kuairand") == DAYS

"""A table is published whole, or not at all; and by content, not by who has written it."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.history import PerUser
from jobs.lake_io import FILES_PER_DAY, publish_days, publish_users
from schemas.contract import Column, Table
from schemas.paths import Lake
from schemas.tables.quarantine import QUARANTINE

DAYS = ["2022-04-22", "2022-04-23"]
TABLE = Table("squares", "A user, a square.", (Column("user_id", "bigint", ""), Column("square", "bigint", "")), ())


@pytest.mark.parametrize("day", [None, "2022-04-24"])
def test_a_row_that_belongs_to_no_published_day_is_an_error(spark, tmp_path, day):
    lake = Lake(tmp_path)
    rows = spark.createDataFrame(
        [("a.csv", "1,2", "why", DAYS[0]), ("a.csv", "1,3", "why", day)],
        f"{QUARANTINE.ddl}, ds string",
    )
    with pytest.raises(ValueError, match=r"quarantine of kuairand: rows of \S+ have no day to go to"):
        publish_days(rows, lake, QUARANTINE, "kuairand", DAYS, split_by="raw", order_by=("raw",), inputs=lambda _: {})
    assert lake.days("quarantine", "kuairand") == []


def squares(spark, users: int, days: list[str], parts: int) -> PerUser:
    def compute(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
        for batch in batches:
            user = batch.column("user_id")
            yield pa.table({"ds": batch.column("ds"), "square": pa.compute.multiply(user, user), "user_id": user})

    facts = spark.createDataFrame(
        [(user, days[user % len(days)]) for user in range(users)], "user_id bigint, ds string"
    )
    return PerUser(facts.repartition(parts), ("user_id",), compute, f"{TABLE.ddl}, ds string")


def test_what_workers_write_has_one_fingerprint_whatever_the_parallelism(spark, tmp_path):
    found, users_by_file = [], []
    for parts in (1, 7):
        lake = Lake(tmp_path / str(parts))
        rows = squares(spark, 300, DAYS, parts)
        found.append(publish_users(spark, rows, lake, TABLE, "kuairand", DAYS, inputs=lambda day: {"of": day}))
        assert not any(lake.staging.iterdir())
        for day, manifest in found[-1].items():
            files = sorted(lake.partition("squares", "kuairand", day).glob("*.parquet"))
            assert len(files) == FILES_PER_DAY
            users = [pq.read_table(file).column("user_id").to_pylist() for file in files]
            assert all(of_file == sorted(of_file) for of_file in users)
            assert sorted(user for of_file in users for user in of_file) == [
                user for user in range(300) if DAYS[user % 2] == day
            ]
            assert manifest.rows == 150
            assert manifest.inputs == {"of": day}
            users_by_file.append(users)
    assert found[0] == found[1]
    # Training draws windows by their places in the files, one after the other: these are part of the content, too.
    assert users_by_file[:2] == users_by_file[2:]


def test_what_workers_write_is_not_lost_either(spark, tmp_path):
    lake = Lake(tmp_path)
    with pytest.raises(ValueError, match="squares of kuairand: rows of 2022-04-23 have no day to go to"):
        publish_users(spark, squares(spark, 3, DAYS, 1), lake, TABLE, "kuairand", DAYS[:1], inputs=lambda _: {})
    assert lake.days("squares", "kuairand") == []
    published = publish_users(spark, squares(spark, 0, DAYS, 1), lake, TABLE, "kuairand", DAYS, inputs=lambda _: {})
    assert [manifest.rows for manifest in published.values()] == [0, 0]
    assert lake.days("squares", "kuairand") == DAYS  # a day without rows is empty, not absent

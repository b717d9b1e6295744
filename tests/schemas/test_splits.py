"""The split is the same in Python and in Spark, is near 80/10/10, and never changes."""

from collections import Counter

import pytest

from schemas.splits import TEST, TRAIN, VALIDATION, split_of, split_sql


def test_shares():
    counts = Counter(split_of(user) for user in range(20_000))
    assert counts[TRAIN] / 20_000 == pytest.approx(0.8, abs=0.015)
    assert counts[VALIDATION] / 20_000 == pytest.approx(0.1, abs=0.01)
    assert counts[TEST] / 20_000 == pytest.approx(0.1, abs=0.01)


def test_golden():
    """A change of these would move users from test to training in every existing lake."""
    assert [split_of(user) for user in (1, 2, 3, 29659161, "ann", "-7")] == GOLDEN


GOLDEN = ["validation", "train", "test", "train", "train", "train"]


@pytest.mark.spark
def test_spark_computes_the_same_split(spark_sql):
    users = [*range(300), 2**60, -5]
    rows = spark_sql.createDataFrame([(u,) for u in users], "user_id bigint").selectExpr(
        "user_id", split_sql("user_id")
    )
    assert {row[0]: row[1] for row in rows.collect()} == {u: split_of(u) for u in users}
    texts = spark_sql.createDataFrame([("ann",), ("bøb",)], "user_id string").selectExpr(
        "user_id", split_sql("user_id")
    )
    assert {row[0]: row[1] for row in texts.collect()} == {u: split_of(u) for u in ("ann", "bøb")}

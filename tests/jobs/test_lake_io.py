"""A table is published whole, or not at all."""

import pytest

from jobs.lake_io import publish_days
from schemas.paths import Lake
from schemas.tables.quarantine import QUARANTINE


@pytest.mark.parametrize("day", [None, "2022-04-24"])
def test_a_row_that_belongs_to_no_published_day_is_an_error(spark, tmp_path, day):
    lake, days = Lake(tmp_path), ["2022-04-22", "2022-04-23"]
    rows = spark.createDataFrame(
        [("a.csv", "1,2", "why", days[0]), ("a.csv", "1,3", "why", day)],
        f"{QUARANTINE.ddl}, ds string",
    )
    with pytest.raises(ValueError, match=r"quarantine of kuairand: rows of ds=\S+ have no day to go to"):
        publish_days(rows, lake, QUARANTINE, "kuairand", days, split_by="raw", order_by=("raw",), inputs=lambda _: {})
    assert lake.days("quarantine", "kuairand") == []

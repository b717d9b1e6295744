"""Column types in Spark's and DuckDB's spelling."""

import duckdb
import pytest

from lakehouse.duckdb_types import duckdb_type
from schemas.dataset import dataset_names, get_dataset
from schemas.tables.journeys import journeys


@pytest.mark.parametrize(
    ("spark", "expected"),
    [
        ("int", "INTEGER"),
        ("bigint", "BIGINT"),
        ("array<array<int>>", "INTEGER[][]"),
        ("map<string, double>", "MAP(VARCHAR, DOUBLE)"),
        ("array<struct<`a b`: int, c: map<string,array<int>>>>",
         'STRUCT("a b" INTEGER, "c" MAP(VARCHAR, INTEGER[]))[]'),
    ],
)  # fmt: skip
def test_types_keep_their_structure(spark, expected):
    assert duckdb_type(spark) == expected


@pytest.mark.parametrize("name", dataset_names())
def test_duckdb_knows_every_type_of_a_journey(name):
    for column in journeys(get_dataset(name)).columns:
        duckdb.sql(f"SELECT CAST(NULL AS {duckdb_type(column.dtype)})").fetchall()


@pytest.mark.parametrize(
    "broken", ["", "array<int", "array<int>>", "struct<a int>", "decimal(3,2)", "text", "map<int>"]
)
def test_what_is_no_type_is_refused(broken):
    with pytest.raises(ValueError, match="cannot read the column type"):
        duckdb_type(broken)

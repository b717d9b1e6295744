"""The Arrow types of contracts are those that Spark gives them."""

import pytest

from jobs.spark.worker_tables import arrow_schema
from lakehouse.arrow_types import stored_schema
from schemas.dataset import get_dataset
from schemas.tables import EXPOSURES, JOURNEYS, QUARANTINE, SEQUENCES, STEPS
from schemas.tables.registry import registered


@pytest.mark.parametrize("name", [EXPOSURES, QUARANTINE, JOURNEYS, STEPS, SEQUENCES])
def test_a_table_that_workers_write_has_the_types_of_spark(spark, name):
    table = registered(name).contract(get_dataset("criteo"))
    assert stored_schema(table).equals(arrow_schema(table.ddl))

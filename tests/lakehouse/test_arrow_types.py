"""The Arrow types of contracts are those that Spark gives them."""

import pytest
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from lakehouse.arrow_types import stored_schema
from schemas.dataset import get_dataset
from schemas.tables import EXPOSURES, JOURNEYS, QUARANTINE, SEQUENCES, STEPS
from schemas.tables.registry import registered


@pytest.mark.parametrize("name", [EXPOSURES, QUARANTINE, JOURNEYS, STEPS, SEQUENCES])
@pytest.mark.usefixtures("spark_sql")
def test_a_table_that_workers_write_has_the_types_of_spark(name):
    table = registered(name).contract(get_dataset("criteo"))
    assert stored_schema(table).equals(to_arrow_schema(StructType.fromDDL(table.ddl), timezone="UTC"))

"""Rows of a contract as an Arrow table, and a partition made of them."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.staging import staging_folder
from schemas.contract import Table
from schemas.dataset import Dataset

ROWS_PER_GROUP = 100_000  # of the large tables' Parquet files

ARROW = {
    "int": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "map<string, double>": pa.map_(pa.string(), pa.float64()),
}


def arrow_schema(table: Table) -> pa.Schema:
    """The contract's columns, of flat types."""
    return pa.schema([pa.field(c.name, ARROW[c.dtype], nullable=c.nullable) for c in table.columns])


def publish_rows(
    lake: Lake,
    table: Table,
    dataset: Dataset,
    day: str,
    rows: Sequence[Mapping[str, object]],
    inputs: Mapping[str, str],
    spec_version: str | None = None,
) -> Manifest:
    """Publish rows, by name of the column; a column that a row does not name is null. No rows: an empty partition."""
    with staging_folder(lake) as staged:
        pq.write_table(pa.Table.from_pylist(list(rows), arrow_schema(table)), staged / "part-00000.parquet")
        return lake[table.name, dataset, day].publish(
            staged,
            rows=len(rows),
            inputs=inputs,
            code=code_version("mtorl_model"),
            spec_version=spec_version,
        )

"""Publishes a partition from Python rows, and gives the Arrow schema of a table contract."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.staging import staging_folder
from schemas.contract import Table
from schemas.dataset import Dataset
from schemas.tables import item_history

ROWS_PER_GROUP = 100_000  # rows in a row group of the Parquet files of large tables

ARROW_TYPES = {
    "int": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "map<string, double>": pa.map_(pa.string(), pa.float64()),
    item_history.PENDING_TYPE: pa.list_(
        pa.struct([("known_on", pa.string()), ("gain", pa.string()), ("count", pa.int64())])
    ),
}


def arrow_schema(table: Table) -> pa.Schema:
    """The columns of a contract that has only flat types, maps of numbers and pending gains."""
    return pa.schema([pa.field(c.name, ARROW_TYPES[c.dtype], nullable=c.nullable) for c in table.columns])


def publish_rows(
    lake: Lake,
    table: Table,
    dataset: Dataset,
    day: str,
    rows: Sequence[Mapping[str, object]],
    inputs: Mapping[str, str],
    spec_version: str | None = None,
) -> Manifest:
    """Publish rows as one file. A row is a mapping by column name; a column that it leaves out is null.

    Without rows, an empty partition is published.
    """
    with staging_folder(lake) as staged:
        pq.write_table(pa.Table.from_pylist(list(rows), arrow_schema(table)), staged / "part-00000.parquet")
        return lake[table.name, dataset, day].publish(
            staged,
            rows=len(rows),
            inputs=inputs,
            code=code_version("mtorl_model"),
            spec_version=spec_version,
        )

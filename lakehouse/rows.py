"""Publishes a partition from Python rows, and gives the Arrow schema of a table contract."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.storage.delta_table import DataFile, Replaced
from lakehouse.storage.scratch import work_folder
from schemas.contract import Table
from schemas.dataset import Dataset
from schemas.tables import item_history

_SEPARATOR = ": "  # between a registered model and the name of one of its inputs
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
    replaces: Sequence[DataFile] | None = None,
) -> Manifest:
    """Publish rows as one file. A row is a mapping by column name; a column that it leaves out is null.

    Without rows, an empty partition is published. replaces: see Partition.publish.
    """
    with work_folder() as work:
        pq.write_table(
            pa.Table.from_pylist(list(rows), arrow_schema(table)), work / "part-0.parquet", write_page_checksum=True
        )
        return lake[table.name, dataset, day].publish(
            work, inputs=inputs, code=code_version("mtorl_model"), spec_version=spec_version, replaces=replaces
        )


def publish_model_rows(
    lake: Lake,
    table: Table,
    dataset: Dataset,
    day: str,
    model: str,
    rows: Sequence[Mapping[str, object]],
    inputs: Mapping[str, str],
) -> Manifest:
    """Replace the rows of one registered model (mtorl_kuairand); those of other models stay, with their inputs.

    For a table with rows of several models a day, whose versions are in the column Table.model_column. The models are
    in the order of their names, so the partition does not depend on the order in which they were published. Two models
    may be published at the same time.
    """
    while True:
        try:
            return _publish_model_rows(lake, table, dataset, day, model, rows, inputs)
        except Replaced:
            continue  # another model's rows have been published in the meantime: keep them as well


def publish_if_missing(lake: Lake, table: Table, dataset: Dataset, day: str) -> None:
    """Publish a partition without rows, unless the day is published."""
    with suppress(Replaced):  # another run has published it in the meantime
        if not lake[table.name, dataset, day].is_published:
            publish_rows(lake, table, dataset, day, [], {}, replaces=())


def _publish_model_rows(
    lake: Lake, table: Table, dataset: Dataset, day: str, model: str, rows: Sequence[Mapping[str, object]],
    inputs: Mapping[str, str],
) -> Manifest:  # fmt: skip
    partition = lake[table.name, dataset, day]
    present_files, published = partition.data_files(), partition.manifest
    present = _present_rows(lake, table, dataset, day)
    other_models = {model_of_version(str(row[table.model_column])) for row in present} - {model}
    rows_by_model = {name: _rows_of(present, table, name) for name in other_models} | {model: rows}
    other_inputs = {name: value for name, value in (published.inputs if published else {}).items()
            if not name.startswith(f"{model}{_SEPARATOR}")}  # fmt: skip
    model_inputs = {f"{model}{_SEPARATOR}{name}": value for name, value in inputs.items()}
    all_rows = [row for name in sorted(rows_by_model) for row in rows_by_model[name]]
    return publish_rows(lake, table, dataset, day, all_rows, other_inputs | model_inputs, replaces=present_files)


def inputs_of_model(manifest: Manifest | None, model: str) -> dict[str, str]:
    """The inputs with which publish_model_rows published a model's rows; empty without any."""
    prefix = f"{model}{_SEPARATOR}"
    inputs = manifest.inputs if manifest else {}
    return {name.removeprefix(prefix): value for name, value in inputs.items() if name.startswith(prefix)}


def rows_of_model(lake: Lake, table: Table, dataset: Dataset, day: str, model: str) -> list[dict[str, Any]]:
    """A registered model's rows of a day, in their order; none if nothing is published."""
    return _rows_of(_present_rows(lake, table, dataset, day), table, model)


def model_of_version(version: str) -> str:
    """mtorl_kuairand of mtorl_kuairand/3."""
    return version.partition("/")[0]


def _present_rows(lake: Lake, table: Table, dataset: Dataset, day: str) -> list[dict[str, Any]]:
    partition = lake[table.name, dataset, day]
    return partition.read().to_pylist() if partition.files() else []


def _rows_of(rows: Sequence[dict[str, Any]], table: Table, model: str) -> list[dict[str, Any]]:
    return [row for row in rows if model_of_version(str(row[table.model_column])) == model]

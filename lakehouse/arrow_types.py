"""The types of contracts, which are written in Spark's DDL, as Arrow types; without Spark."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from schemas.contract import Table

_FLAT = {
    "int": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "binary": pa.binary(),
}


def arrow_type(ddl: str) -> pa.DataType:
    """The Arrow type of a DDL type: flat, array<...>, or struct<name: ..., ...>."""
    if inner := re.fullmatch(r"array<(.+)>", ddl):
        return pa.list_(arrow_type(inner[1]))
    if inner := re.fullmatch(r"struct<(.+)>", ddl):
        fields = (field.split(":", 1) for field in _top_level_parts(inner[1]))
        return pa.struct([(name.strip().strip("`"), arrow_type(dtype.strip())) for name, dtype in fields])
    return _FLAT[ddl]


def stored_schema(table: Table) -> pa.Schema:
    """The columns of a contract as Spark's workers write them: all of them may be null, which the audit checks."""
    return pa.schema([(column.name, arrow_type(column.dtype)) for column in table.columns])


def in_schema(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with these columns and types. A file may be older than a column of the contract, which then is null."""
    if rows.schema == schema:
        return rows
    columns = [
        rows.column(field.name) if field.name in rows.column_names else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.table(columns, schema.names).cast(schema)


def rows_where(rows: pa.Table, mask: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows for which the mask is true: the table itself, without a copy, if all are."""
    return rows if pc.all(mask, skip_nulls=False, min_count=0).as_py() else rows.filter(mask)


def _top_level_parts(text: str) -> list[str]:
    """The text cut at commas outside angle brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += {"<": 1, ">": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts

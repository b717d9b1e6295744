"""Facts that every partition is audited for: its manifest, its files, and the columns that the contract declares.

They are measured without loading rows: from the manifest, the Parquet schema, and counts in DuckDB.
"""

from collections.abc import Iterator

import duckdb

from jobs.quality.audit_results import ABOUT_COLUMNS
from jobs.quality.facts import Fact
from jobs.quality.partition_counts import column_types, contract_types, non_finite_counts, null_counts, row_count
from lakehouse.lake import Partition
from lakehouse.manifest import Manifest
from lakehouse.storage.data_files import file_fault
from schemas.contract import Severity, Table

_LONG_TYPE = 60  # characters; the sentence of a rule does not spell a longer type
_EXCERPT = 30  # characters on each side of the first difference of two long types


def unpublished_fact(partition: Partition) -> Fact:
    """Fails for a partition that lacks its manifest or its data files."""
    manifest = "a manifest" if partition.is_published else "no manifest"
    files = "Parquet files" if partition.data_files() else "no Parquet files"
    return Fact(
        "expect_partition_to_be_published", f"{manifest} and {files}", "a manifest and Parquet files",
        "The table has the day, with a manifest and at least one Parquet file.", "a job publishes both or nothing",
    )  # fmt: skip


def unreadable_fact(message: str) -> Fact:
    """Fails for a partition whose data files stop a reader with this message."""
    return Fact(
        "expect_files_to_be_readable", message, "readable", "The data files can be read completely.",
        "every job that reads the partition would fail",
    )  # fmt: skip


def manifest_facts(partition: Partition, manifest: Manifest) -> Iterator[Fact]:
    """The manifest names this partition and describes its files."""
    yield Fact(
        "expect_manifest_to_name_the_partition",
        f"{manifest.table}/{manifest.dataset}/{manifest.ds}",
        f"{partition.table}/{partition.dataset}/{partition.day}",
        "The manifest names this table, dataset and day.", "a manifest of another place is not about this day",
    )  # fmt: skip
    yield Fact(
        "expect_files_to_have_the_content_of_their_names", ", ".join(damaged_files(partition)[:3]) or "all", "all",
        "Each data file has the content from which its name was made.",
        "files that changed after publishing are not the files that later tables were built from",
    )  # fmt: skip


def damaged_files(partition: Partition) -> list[str]:
    """The names of the data files that are missing or do not have the content of their names."""
    folder = partition.lake.table(partition.table, partition.dataset)
    return [file.name for file in partition.data_files() if file_fault(folder, file)]


def schema_facts(connection: duckdb.DuckDBPyConnection, partition: Partition, table: Table) -> Iterator[Fact]:
    """Each column of the contract exists with its type, and there is no other column."""
    actual, declared = column_types(connection, partition), contract_types(connection, table)
    for column in table.columns:
        observed, expected = _comparable(actual.get(column.name, "no such column"), declared[column.name], column.dtype)
        yield Fact(
            f"expect_column_values_to_be_of_type({column.name})", observed, expected,
            f"{column.name} exists, with the type "
            f"{column.dtype if len(column.dtype) < _LONG_TYPE else 'that the contract declares'}.",
            "readers rely on the contract's columns and types", ABOUT_COLUMNS,
        )  # fmt: skip
    yield Fact(
        "expect_table_columns_to_be_in_contract", ", ".join(sorted(set(actual) - set(declared))) or "none", "none",
        "Every column is declared in the contract.",
        "an undeclared column has no rule for when its value becomes known", ABOUT_COLUMNS, Severity.WARNING,
    )  # fmt: skip


def content_facts(connection: duckdb.DuckDBPyConnection, table: Table, manifest: Manifest) -> Iterator[Fact]:
    """The number of rows; for each column, that it has a value where the contract promises one, and finite numbers.

    The columns must have the contract's types.
    """
    yield Fact(
        "expect_table_row_count_to_equal_manifest", row_count(connection), manifest.rows,
        "The partition has as many rows as the manifest states.", "rows were lost or doubled after publishing",
    )  # fmt: skip
    for name, count in null_counts(connection, [c for c in table.columns if not c.nullable]).items():
        yield Fact(
            f"expect_column_values_to_not_be_null({name})", count, 0, f"{name} has a value in every row.",
            "the contract promises a value in every row", ABOUT_COLUMNS, rows=count,
        )  # fmt: skip
    for name, count in non_finite_counts(connection, table.columns).items():
        yield Fact(
            f"expect_column_values_to_be_finite({name})", count, 0, f"{name} is never NaN or infinite.",
            "one NaN makes every mean and every loss NaN", ABOUT_COLUMNS, rows=count,
        )  # fmt: skip


def _comparable(actual: str, declared: str, dtype: str) -> tuple[str, str]:
    """Two DuckDB types as a person compares them: as dtype if they agree, else near their first difference."""
    if actual == declared:
        return dtype, dtype
    if max(len(actual), len(declared)) <= 80:
        return actual, declared
    difference = next((i for i, (a, b) in enumerate(zip(actual, declared, strict=False)) if a != b), 0)
    start, end = max(0, difference - _EXCERPT), difference + _EXCERPT
    return f"...{actual[start:end]}...", f"...{declared[start:end]}..."

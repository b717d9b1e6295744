"""Rows of a raw log to the tables `exposures` (usable rows without duplicates) and `quarantine`."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.raw.joins.outcomes import OUTCOME
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE
from jobs.raw.rows import DS
from jobs.spark.worker_tables import WorkerTable, as_tables
from schemas.dataset import Dataset
from schemas.tables.exposures import exposures as exposures_table
from schemas.tables.quarantine import QUARANTINE_TABLE

# Usable rows that agree in all three are duplicates. exposure_id is a hash of the log key, and so determines the time.
_IDENTITY = ("user_id", "exposed_at_ms", "exposure_id")


def exposure_rows(rows: DataFrame, dataset: Dataset, published: DataFrame | None = None) -> WorkerTable:
    """The table `exposures` plus ds: the usable rows without duplicates.

    rows: as from jobs.raw.rows.read_rows. published: rows of the lake's own table to add.
    """
    table = exposures_table(dataset)
    usable = exposures_in(rows).select(*(F.col(c.name).cast(c.dtype).alias(c.name) for c in table.columns), DS)
    if published is not None:
        usable = usable.unionByName(published)
    return WorkerTable(usable, "user_id", exposure_order(dataset), without_duplicates, f"{table.ddl}, {DS} string")


def exposures_in(rows: DataFrame) -> DataFrame:
    """The rows that are usable as exposures."""
    usable = rows.where(F.col(REASON).isNull())
    return usable.where(F.col(OUTCOME).isNull()) if OUTCOME in rows.columns else usable


def quarantined_rows(rows: DataFrame, headers: Mapping[str, bytes], published: DataFrame | None = None) -> WorkerTable:
    """The table `quarantine` plus ds. headers: of the raw files, by name. Other arguments as for exposure_rows."""
    quarantined = rows.where(F.col(REASON).isNotNull()).select(
        F.col(SOURCE).alias("source_file"),
        F.col(RAW).alias("raw"),
        F.col(REASON).alias("reason"),
        F.lit(None).cast("binary").alias("header"),
        DS,
    )
    if published is not None:
        quarantined = quarantined.unionByName(published)
    order = ("raw", "source_file", "reason")

    def with_headers(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
        for table in as_tables(batches):
            known = pa.array([headers.get(name) for name in table.column("source_file").to_pylist()], pa.binary())
            place = table.column_names.index("header")
            yield table.set_column(place, "header", pc.coalesce(table.column("header"), known))

    return WorkerTable(quarantined, "raw", order, with_headers, f"{QUARANTINE_TABLE.ddl}, {DS} string")


def exposure_order(dataset: Dataset) -> tuple[Column, ...]:
    """The order of the table `exposures`, in which the row to keep precedes its duplicates.

    The row with the most late gains is kept: a row that is delivered again with its conversion replaces the earlier
    one. Further ties go to the larger values, column by column, so that every run keeps the same row.
    """
    identity = [F.col(name) for name in _IDENTITY]
    late_gains = [F.col(gain).desc_nulls_last() for gain in dataset.late_gains]
    values = [F.col(column.name).desc_nulls_last() for column in exposures_table(dataset).columns]
    return (*identity, *late_gains, *values)


def without_duplicates(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The first row of each exposure. batches: rows in exposure_order.

    Duplicates have the same time and therefore the same day.
    """
    previous_row: pa.RecordBatch | None = None
    for batch in filter(len, batches):
        # The identity has no nulls: a row with a null in it is quarantined.
        is_first = np.full(len(batch), False)
        for name in _IDENTITY:
            column = batch.column(name)
            is_first[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
            is_first[0] |= previous_row is None or previous_row.column(name)[0] != column[0]
        yield pa.Table.from_batches([batch.filter(pa.array(is_first))])
        previous_row = batch.slice(len(batch) - 1)

"""Reads a raw log into rows: each row is usable as an exposure or an outcome, or has the reason for its quarantine.

No row of the log is dropped. Spark's workers read the files and compute the rows: jobs.raw.row_work.
"""

from collections.abc import Mapping
from functools import partial

import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.raw.contract_sql import check_expressions
from jobs.raw.files import RawFiles
from jobs.raw.joins.lookups import check_selects, read_lookups
from jobs.raw.lines import read_in_workers
from jobs.raw.reader.typed_rows import REASON
from jobs.raw.row_work import DS, log_rows, outcome_file_rows, row_columns
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.printable import counted


def read_rows(spark: SparkSession, dataset: Dataset, files: Mapping[str, RawFiles]) -> DataFrame:
    """All rows of the log, joined with the lookups, and all rows of the files of outcomes.

    files: by view name, as from find_raw_files; the log and each file of outcomes may be left out, but not all of them.
    Columns: jobs.raw.row_work.row_columns.
    """
    require_usable(dataset)
    ddl = ", ".join(f"`{name}` {dtype}" for name, dtype in row_columns(dataset))
    parts = []
    if dataset.log.view in files:
        lookups = _to_workers(spark, read_lookups(dataset, files))
        compute = partial(_log_rows, dataset=dataset, lookups=lookups)
        parts.append(read_in_workers(spark, files[dataset.log.view], compute, ddl))
    for file in dataset.outcome_files:
        if file.view in files:
            compute = partial(outcome_file_rows, dataset=dataset, file=file)
            parts.append(read_in_workers(spark, files[file.view], compute, ddl))
    rows, *further = parts
    for part in further:
        rows = rows.unionByName(part)
    return rows


def require_usable(dataset: Dataset) -> None:
    """Raises UserError for a contract with a fault. Needs no Spark, so it is called before Spark starts as well."""
    try:
        dataset.check()
    except ValueError as error:
        raise UserError(str(error)) from error
    check_selects(dataset)
    check_expressions(dataset)


def _to_workers(spark: SparkSession, tables: Mapping[str, pa.Table]) -> dict[str, "Broadcast[bytes]"]:
    """Each table as a stream of Arrow, which Spark sends to each machine once."""
    streams = {}
    for view, table in tables.items():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        streams[view] = spark.sparkContext.broadcast(sink.getvalue().to_pybytes())
    return streams


def _log_rows(log: pa.Table, dataset: Dataset, lookups: Mapping[str, "Broadcast[bytes]"]) -> pa.Table:
    tables = {view: pa.ipc.open_stream(stream.value).read_all() for view, stream in lookups.items()}
    return log_rows(log, dataset, tables)


def usable_rows_by_day(rows: DataFrame) -> dict[str, int]:
    """The number of usable rows of each day. A quarantined row may have any time, so it does not count.

    Raises UserError with the most frequent reason if no row is usable.
    """
    usable = {row[DS]: row["count"] for row in rows.where(F.col(REASON).isNull()).groupBy(DS).count().collect()}
    if not usable:
        problem = "it is empty"
        reasons = rows.groupBy(REASON).count().orderBy(F.desc("count"), REASON).collect()
        if reasons:
            quarantined = sum(row["count"] for row in reasons)
            problem = (
                f"{counted(quarantined, 'row')} in quarantine and no other, most often because: {reasons[0][REASON]}"
            )
        raise UserError(f"the log has no usable row: {problem}; is it the right file?")
    return usable

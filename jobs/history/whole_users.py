"""Brings the facts of each user together and in order, and computes whole users in Spark's workers.

Spark reads, shuffles and sorts; the arithmetic (features/point_in_time.py) runs on whole columns of many users. As
window functions of Spark, the same rules are a plan of thousands of expressions, which takes longer to plan than a day
takes to compute.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features import visibility
from features.user_chunk import DS, RUNNING_TOTALS, SUMMARY, UserChunk
from features.visibility import Side
from jobs.history.bucket_exposures import facts_of_exposures
from jobs.spark.worker_tables import WorkerTable, arrow_schema
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import profile_inputs
from schemas.tables.journeys import journeys

# A chunk ends with the user who brings it to one of these. A summary of forty steps is one row of about 10,000 bytes.
_CHUNK_ROWS, _CHUNK_BYTES = 20_000, 32 * 2**20
# All rows of a user are computed together, and each takes several kilobytes.
_MAX_ROWS_OF_A_USER = 2_000_000


def compute_whole_users(
    exposures: DataFrame,
    earlier_journeys: DataFrame | None,
    dataset: Dataset,
    as_of_ms: int,
    compute: Callable[[UserChunk, Side], pa.Table],
    ddl: str,
) -> WorkerTable:
    """The table that `compute` makes of chunks of whole users.

    exposures: rows of the table `exposures` plus ds, all before as_of_ms. earlier_journeys: the table `journeys` as of
    the day before the first of them, None without earlier history. ddl: the columns that `compute` returns.
    """
    facts = _exposure_facts(exposures, dataset)
    order: list[str | Column] = ["user_id", "exposed_at_ms", "exposure_id"]
    if earlier_journeys is not None:
        facts = facts.unionByName(_summary_facts(earlier_journeys, dataset), allowMissingColumns=True)
        order.insert(1, F.col(SUMMARY).isNull())
    schema = arrow_schema(ddl)
    summary_type = arrow_schema(f"s {_summary_ddl(dataset)}").field(0).type
    side = visibility.STRICTLY_BEFORE  # read in the driver: a test that patches it reaches the workers only this way

    def compute_chunks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
        for rows in _whole_users(batches):
            if SUMMARY not in rows.column_names:
                # Added here: on its way through Spark an empty summary costs as much as the rest of the row.
                rows = rows.append_column(SUMMARY, pa.nulls(len(rows), summary_type))
            table = compute(UserChunk.from_rows(rows, as_of_ms), side)
            yield table.select(schema.names).cast(schema)

    return WorkerTable(facts, "user_id", tuple(order), compute_chunks, ddl)


def _whole_users(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows in the same order, in chunks that end where a user ends.

    Raises UserError for a user with more than _MAX_ROWS_OF_A_USER rows.
    """
    buffered: list[pa.RecordBatch] = []
    for batch in filter(len, batches):
        user_id = batch.column("user_id")
        user_starts = np.flatnonzero(pc.not_equal(user_id[1:], user_id[:-1]).to_numpy(zero_copy_only=False)) + 1
        if buffered and buffered[-1].column("user_id")[-1] != user_id[0]:
            user_starts = np.append(0, user_starts)
        rows = sum(map(len, buffered)) + len(batch)
        size_bytes = sum(part.nbytes for part in buffered) + batch.nbytes
        if len(user_starts) and (rows >= _CHUNK_ROWS or size_bytes >= _CHUNK_BYTES):
            yield pa.Table.from_batches([*buffered, batch.slice(0, user_starts[-1])])
            buffered, batch = [], batch.slice(user_starts[-1])
        buffered.append(batch)
        if not len(user_starts) and rows > _MAX_ROWS_OF_A_USER:
            raise UserError(
                f"user {user_id[0]} has more than {_MAX_ROWS_OF_A_USER:,} exposures in the days that are built: an id"
                " that stands for many people has no journey; refuse it in the dataset's contract (refusals)"
            )
    if buffered:
        yield pa.Table.from_batches(buffered)


def _exposure_facts(exposures: DataFrame, dataset: Dataset) -> DataFrame:
    return exposures.select(*facts_of_exposures(dataset), DS)


def _summary_facts(earlier_journeys: DataFrame, dataset: Dataset) -> DataFrame:
    """Each earlier journey as one row: the profile, and SUMMARY with all else that later steps need of it."""
    latest_ms = F.element_at("memory", -1)["exposed_at_ms"].alias("exposed_at_ms")
    summary = F.struct("next_step", *RUNNING_TOTALS, "memory", latest_ms).cast(_summary_ddl(dataset))
    return earlier_journeys.select("user_id", *(c.name for c in profile_inputs(dataset)), summary.alias(SUMMARY))


def _summary_ddl(dataset: Dataset) -> str:
    table = journeys(dataset)
    fields = ", ".join(f"{name}: {table.column(name).dtype}" for name in ("next_step", *RUNNING_TOTALS, "memory"))
    return f"struct<{fields}, exposed_at_ms: bigint>"

"""The facts of each user, brought together and in order, for what is computed from them in point_in_time.py.

Every input of a step is computed from *facts*, each with the time it becomes known:

- an exposure is known at its own time: that it happened, its channel, its cost, its `after` columns and the
  gains that come with it;
- a late gain (a conversion) is known at its own time;
- yesterday's journey is one fact that sums up all earlier ones.

A step at time t sees exactly the facts with a smaller time. Exposures with one time stamp therefore do not see each
other, and neither do conversions that have not happened yet. What is new at a step is the difference to the previous
step's view.

Spark reads, shuffles and sorts; the arithmetic runs in its workers on whole columns of many users at once. As window
functions of Spark, the same rules are a plan of thousands of expressions, which takes longer to plan than a day takes
to compute.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features import point_in_time
from features.facts import DS, SUMMARY, Chunk
from features.point_in_time import EXPOSURE, KIND, Side, known_steps
from jobs.spark.worker_tables import InWorkers, arrow_schema
from schemas.contract import Known
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import input_columns, known_after_columns, outcome_columns, profile_inputs
from schemas.tables.journeys import journeys

__all__ = ["DS", "EXPOSURE", "KIND", "per_user", "with_history"]

# A summary of forty steps is one row, of some ten thousand bytes.
_ROWS_AT_ONCE, _BYTES_AT_ONCE = 20_000, 32 * 2**20
_MOST_ROWS_OF_A_USER = 2_000_000  # they are computed at once, in some kilobytes each
# What a query holds beside its inputs, as `journeys` carries it on.
CARRIED = ("seen_cost_nano", "seen_sums", "last_gain_at_ms", "pending")


def with_history(exposures: DataFrame, yesterday: DataFrame | None, dataset: Dataset, as_of_ms: int) -> DataFrame:
    """Steps with everything known strictly before them.

    exposures: rows of the table `exposures` plus ds, all before as_of_ms. yesterday: the table `journeys` as of
    the day before the first of them, None where there is no earlier history.

    Returns KIND = exposure: a step per exposure, outcome and input columns of schemas.steps, ds, profile;
    and KIND = query: a step per user at as_of_ms, input columns, profile, and what `journeys` carries on.
    """
    table = journeys(dataset)
    columns = {"user_id": dataset.user_id.column.dtype, KIND: "string", DS: "string"}
    columns |= {c.name: c.dtype for c in (*outcome_columns(dataset), *input_columns(dataset), *profile_inputs(dataset))}
    columns |= {name: table.column(name).dtype for name in CARRIED}
    ddl = ", ".join(f"`{name}` {dtype}" for name, dtype in columns.items())

    def steps(chunk: Chunk, side: Side) -> pa.Table:
        return known_steps(chunk, dataset, side)

    return per_user(exposures, yesterday, dataset, as_of_ms, steps, ddl).frame()


def per_user(
    exposures: DataFrame,
    yesterday: DataFrame | None,
    dataset: Dataset,
    as_of_ms: int,
    compute: Callable[[Chunk, Side], pa.Table],
    ddl: str,
) -> InWorkers:
    """What `compute` makes of the facts of whole users, some ten thousand rows at a time. ddl: its columns."""
    facts = _exposure_facts(exposures, dataset)
    order: list[str | Column] = ["user_id", "exposed_at_ms", "exposure_id"]
    if yesterday is not None:
        facts = facts.unionByName(_summary_facts(yesterday, dataset), allowMissingColumns=True)
        order.insert(1, F.col(SUMMARY).isNull())
    schema = arrow_schema(ddl)
    no_summary = arrow_schema(f"s {_summary_type(dataset)}").field(0).type
    side = point_in_time.STRICTLY  # read here: a worker process would import the module anew

    def computed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
        for rows in _whole_users(batches):
            if SUMMARY not in rows.column_names:
                # Added here: on its way through Spark an empty summary costs as much as the rest of the row.
                rows = rows.append_column(SUMMARY, pa.nulls(len(rows), no_summary))
            found = compute(Chunk.of(rows, as_of_ms), side)
            yield found.select(schema.names).cast(schema)

    return InWorkers(facts, "user_id", tuple(order), computed, ddl)


def _whole_users(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows in the same order, never a part of a user.

    A UserError where one user has so many rows that they are no person's.
    """
    held: list[pa.RecordBatch] = []
    for batch in filter(len, batches):
        user_id = batch.column("user_id")
        begins = np.flatnonzero(pc.not_equal(user_id[1:], user_id[:-1]).to_numpy(zero_copy_only=False)) + 1
        if held and held[-1].column("user_id")[-1] != user_id[0]:
            begins = np.append(0, begins)
        rows, size = sum(map(len, held)) + len(batch), sum(part.nbytes for part in held) + batch.nbytes
        if len(begins) and (rows >= _ROWS_AT_ONCE or size >= _BYTES_AT_ONCE):
            yield pa.Table.from_batches([*held, batch.slice(0, begins[-1])])
            held, batch = [], batch.slice(begins[-1])
        held.append(batch)
        if not len(begins) and rows > _MOST_ROWS_OF_A_USER:
            raise UserError(
                f"user {user_id[0]} has more than {_MOST_ROWS_OF_A_USER:,} exposures in the days that are built: an id"
                " that stands for many people has no journey; refuse it in the dataset's contract (refusals)"
            )
    if held:
        yield pa.Table.from_batches(held)


def _exposure_facts(exposures: DataFrame, dataset: Dataset) -> DataFrame:
    names = (
        "user_id", DS, *(c.name for c in outcome_columns(dataset)), *(c.name for c in known_after_columns(dataset)),
        *(c.name for c in dataset.features(Known.BEFORE)), *(c.name for c in profile_inputs(dataset)),
    )  # fmt: skip
    return exposures.select(*dict.fromkeys(names))


def _summary_facts(yesterday: DataFrame, dataset: Dataset) -> DataFrame:
    """Yesterday's journey as one fact, known before anything of today, and as the step today's first follows."""
    latest_ms = F.element_at("memory", -1)["exposed_at_ms"].alias("exposed_at_ms")
    summary = F.struct("next_step", *CARRIED, "memory", latest_ms).cast(_summary_type(dataset))
    return yesterday.select("user_id", *(c.name for c in profile_inputs(dataset)), summary.alias(SUMMARY))


def _summary_type(dataset: Dataset) -> str:
    table = journeys(dataset)
    held = ", ".join(f"{name}: {table.column(name).dtype}" for name in ("next_step", *CARRIED, "memory"))
    return f"struct<{held}, exposed_at_ms: bigint>"

"""What was known strictly before each exposure: the one place where that rule is applied.

Every input of a step is computed from *facts*, each with the time it becomes known:

- an exposure is known at its own time: that it happened, its channel, its cost, its `after` columns and the
  gains that come with it;
- a late gain (a conversion) is known at its own time;
- yesterday's journey is one fact that sums up all earlier ones.

A step at time t sees exactly the facts with a smaller time. Exposures with one time stamp therefore do not see each
other, and neither do conversions that have not happened yet. What is new at a step is the difference to the previous
step's view.

Spark brings the facts of each user together and in order; known_before.py does the arithmetic on whole columns of many
users at once. As window functions of Spark, the same rules are a plan of thousands of expressions, which takes longer
to plan than a day takes to compute.
"""

from collections.abc import Callable, Iterator

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from jobs import known_before
from jobs.known_before import DS, EXPOSURE, KIND, QUERY, SUMMARY, known_steps
from schemas.contract import Known
from schemas.dataset import Dataset
from schemas.steps import (
    UNKNOWN_CHANNEL,
    input_columns,
    outcome_columns,
    profile_inputs,
    shown_columns,
)
from schemas.tables.journeys import journeys

__all__ = ["DS", "EXPOSURE", "KIND", "QUERY", "pending_gains", "with_history"]

_ROWS_AT_ONCE = 50_000
# What a step holds beside its inputs, as `journeys` carries it on.
_CARRIED = ("seen_cost_nano", "seen_sums", "last_gain_at_ms")


def with_history(exposures: DataFrame, yesterday: DataFrame | None, dataset: Dataset, as_of_ms: int) -> DataFrame:
    """Steps with everything known strictly before them.

    exposures: rows of the table `exposures` plus ds, all before as_of_ms. yesterday: the table `journeys` as of
    the day before the first of them, None where there is no earlier history.

    Returns KIND = exposure: a step per exposure, outcome and input columns of schemas.steps, ds, profile;
    and KIND = query: a step per user at as_of_ms, input columns, profile, and what `journeys` carries on.
    """
    facts = _exposure_facts(exposures, dataset)
    if yesterday is not None:
        facts = facts.unionByName(_summary_facts(yesterday, dataset), allowMissingColumns=True)
    else:
        facts = facts.withColumn(SUMMARY, F.lit(None).cast(_summary_type(dataset)))
    ordered = facts.repartition("user_id").sortWithinPartitions(
        "user_id", F.col(SUMMARY).isNull(), "exposed_at_ms", "exposure_id"
    )
    ddl = _step_ddl(exposures, dataset)
    schema = to_arrow_schema(StructType.fromDDL(ddl), timezone="UTC")
    # Read here: a worker process would import the module anew.
    side = known_before.STRICTLY

    def steps(rows: pa.Table) -> pa.Table:
        found = known_steps(rows, dataset, as_of_ms, side)
        return found.select(schema.names).cast(schema)

    return ordered.mapInArrow(lambda batches: _by_whole_users(batches, steps), ddl)


def _by_whole_users(
    batches: Iterator[pa.RecordBatch], steps: Callable[[pa.Table], pa.Table]
) -> Iterator[pa.RecordBatch]:
    """Apply it to a few ten thousand rows at a time, never to a part of a user."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= _ROWS_AT_ONCE:
            rows = pa.Table.from_batches(held)
            user_id = rows.column("user_id")
            end = len(rows) - 1
            while end > 0 and user_id[end - 1] == user_id[-1]:
                end -= 1
            if end > 0:
                yield from steps(rows.slice(0, end)).to_batches()
            held = rows.slice(end).to_batches()
    if rows_left := sum(map(len, held)):
        yield from steps(pa.Table.from_batches(held).slice(0, rows_left)).to_batches()


def _exposure_facts(exposures: DataFrame, dataset: Dataset) -> DataFrame:
    names = (
        "user_id", DS, *(c.name for c in outcome_columns(dataset)), *(c.name for c in shown_columns(dataset)),
        *(c.name for c in dataset.features(Known.BEFORE)), *(c.name for c in profile_inputs(dataset)),
    )  # fmt: skip
    return exposures.select(*dict.fromkeys(names))


def _summary_facts(yesterday: DataFrame, dataset: Dataset) -> DataFrame:
    """Yesterday's journey as one fact, known before anything of today, and as the step today's first follows."""
    latest = F.element_at("memory", -1)
    summary = F.struct(
        "next_step", *_CARRIED, "pending", latest["exposed_at_ms"].alias("exposed_at_ms"),
    ).cast(_summary_type(dataset))  # fmt: skip
    return yesterday.select("user_id", *(c.name for c in profile_inputs(dataset)), summary.alias(SUMMARY))


def _summary_type(dataset: Dataset) -> str:
    table = journeys(dataset)
    held = ", ".join(f"{name}: {table.column(name).dtype}" for name in ("next_step", *_CARRIED, "pending"))
    return f"struct<{held}, exposed_at_ms: bigint>"


def _step_ddl(exposures: DataFrame, dataset: Dataset) -> str:
    """The columns that with_history returns."""
    table = journeys(dataset)
    columns = {"user_id": exposures.schema["user_id"].dataType.simpleString(), KIND: "string", DS: "string"}
    columns |= {c.name: c.dtype for c in (*outcome_columns(dataset), *input_columns(dataset), *profile_inputs(dataset))}
    columns |= {name: table.column(name).dtype for name in _CARRIED}
    return ", ".join(f"`{name}` {dtype}" for name, dtype in columns.items())


def pending_gains(exposures: DataFrame, dataset: Dataset) -> DataFrame:
    """All late gains of these exposures: user_id, known_at_ms, channel, gain (its name)."""
    gains = F.array(*(_pending_gain(gain, dataset) for gain in dataset.late_gains))
    return exposures.select("user_id", F.inline(F.array_compact(gains)))


def _pending_gain(gain: str, dataset: Dataset) -> Column:
    return F.when(
        F.col(gain) == 1,
        F.struct(
            F.col(dataset.column(gain).known_at).alias("known_at_ms"),
            F.coalesce("channel", F.lit(UNKNOWN_CHANNEL)).alias("channel"),
            F.lit(gain).alias("gain"),
        ),
    )

"""Yesterday's journeys and today's exposures -> today's journeys."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.history import EXPOSURE, KIND, QUERY, pending_gains, with_history
from jobs.lake_io import conform
from schemas.dataset import Dataset
from schemas.steps import MEMORY_STEPS, input_columns, outcome_columns, profile_inputs
from schemas.tables.journeys import journeys as journeys_table

# What a journey row holds beside memory, next step and profile.
_CARRIED = ("seen_cost_nano", "seen_sums", "last_gain_at_ms")


def fold(exposures: DataFrame, yesterday: DataFrame | None, dataset: Dataset, as_of_ms: int) -> DataFrame:
    """The table `journeys` as of as_of_ms.

    exposures: rows of `exposures` plus ds, from the day after yesterday's journeys up to as_of_ms.
    One row per user of either of them.
    """
    steps = with_history(exposures, yesterday, dataset, as_of_ms)
    is_query = F.col(KIND) == QUERY
    next_step = F.struct(*(c.name for c in input_columns(dataset)))
    carried = {name: F.col(name) for name in (*(c.name for c in profile_inputs(dataset)), *_CARRIED)}
    result = steps.groupBy("user_id").agg(
        remembered(dataset).alias("_today"),
        *(
            F.first(F.when(is_query, value), ignorenulls=True).alias(name)
            for name, value in ({"next_step": next_step} | carried).items()
        ),
    )
    if dataset.late_gains:
        result = result.join(_pending(exposures, yesterday, dataset, as_of_ms), "user_id", "left")
    else:
        result = result.withColumn("pending", F.lit(None))
    # Of the contract's very type with and without a yesterday: elements that may be null look other in Parquet.
    nothing = F.array().cast(journeys_table(dataset).column("memory").dtype)
    memory = F.concat(nothing, F.col("_today.step"))
    if yesterday is not None:
        result = result.join(yesterday.select("user_id", F.col("memory").alias("_old")), "user_id", "left")
        memory = F.concat(F.coalesce("_old", nothing), F.col("_today.step"))
    result = result.withColumns(
        {
            "memory": F.slice(memory, F.greatest(F.size(memory) - MEMORY_STEPS + 1, F.lit(1)), MEMORY_STEPS),
            "pending": F.coalesce("pending", F.array().cast(journeys_table(dataset).column("pending").dtype)),
        }
    )
    return conform(result, journeys_table(dataset))


def remembered(dataset: Dataset) -> Column:
    """Aggregate of with_history's rows: a user's exposure steps, oldest first: array<struct<t, i, step>>.

    `step` has the type of the journey memory; t and i are its order.
    """
    step = F.struct(*(c.name for c in (*outcome_columns(dataset), *input_columns(dataset))))
    entry = F.struct(F.col("exposed_at_ms").alias("t"), F.col("exposure_id").alias("i"), step.alias("step"))
    return F.array_sort(F.collect_list(F.when(F.col(KIND) == EXPOSURE, entry)))


def _pending(exposures: DataFrame, yesterday: DataFrame | None, dataset: Dataset, as_of_ms: int) -> DataFrame:
    """user_id, pending: late gains that are still in the future at as_of_ms, in order of time."""
    gains = pending_gains(exposures, dataset)
    if yesterday is not None:
        gains = gains.unionByName(yesterday.select("user_id", F.inline("pending")))
    entry = F.struct("known_at_ms", "channel", "gain")
    return (
        gains.where(F.col("known_at_ms") >= as_of_ms)
        .groupBy("user_id")
        .agg(F.array_sort(F.collect_list(entry)).alias("pending"))
    )

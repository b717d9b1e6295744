"""Steps to windows of n: cut, pad on the left, mark the labels."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.history import DS, EXPOSURE, KIND
from jobs.journeys import remembered
from schemas.dataset import Dataset
from schemas.splits import split_sql
from schemas.steps import count_inputs, feature_inputs, outcome_columns, profile_inputs
from schemas.tables.feature_spec import FeatureSpec


def cut_windows(
    steps: DataFrame, yesterday: DataFrame | None, dataset: Dataset, spec: FeatureSpec, n: int
) -> DataFrame:
    """The table `sequences` plus ds.

    steps: as made by history.with_history, for a range of days. yesterday: `journeys` as of the day before.

    A user's labels of a day are all of that day's exposures but the user's first ever. They are cut into
    windows in order: the first window starts up to n/2 steps before its first label (at the journey's start
    where there are fewer), each further one exactly n/2 before; the last window is filled with more context.
    """
    journeys = _journeys_with_memory(steps, yesterday, dataset)
    windows = journeys.select(
        "user_id", *(c.name for c in profile_inputs(dataset)), F.inline(_windows_of(F.col("journey"), n))
    )
    padded = windows.withColumn("steps", F.concat(F.array_repeat(F.lit(None), n - F.size("steps")), F.col("steps")))
    return _as_table(padded, dataset, spec, n)


def _journeys_with_memory(steps: DataFrame, yesterday: DataFrame | None, dataset: Dataset) -> DataFrame:
    """user_id, profile, journey: remembered steps (ds null) and then the range's steps, oldest first."""
    profile = [c.name for c in profile_inputs(dataset)]
    per_user = (
        steps.where(F.col(KIND) == EXPOSURE)
        .groupBy("user_id")
        .agg(
            remembered(dataset).alias("today"),
            *(F.max_by(name, F.struct("exposed_at_ms", "exposure_id")).alias(name) for name in profile),
        )
    )
    today = F.arrays_zip(F.col("today.ds").alias("ds"), F.col("today.step").alias("s"))
    if yesterday is None:
        return per_user.select("user_id", *profile, today.alias("journey"))
    memory = F.transform("memory", lambda s: F.struct(F.lit(None).cast("string").alias("ds"), s.alias("s")))
    journey = F.concat(F.coalesce(F.col("old"), F.array()), today)
    return per_user.join(yesterday.select("user_id", memory.alias("old")), "user_id", "left").select(
        "user_id", *profile, journey.alias("journey")
    )


def _windows_of(journey: Column, n: int) -> Column:
    """array<struct<ds, window, labels, steps>>: all windows of a journey, `labels` counted from the right."""
    context = (n + 1) // 2

    def windows_of_day(day: Column) -> Column:
        start = F.array_position(journey["ds"], day).cast("int") - 1
        end = start + F.size(F.filter(journey["ds"], lambda d: d == day))
        first_label = F.greatest(start, F.lit(1))
        # With a short past there is room for more labels in the first window.
        in_first = n - F.least(first_label, F.lit(context))
        more = F.greatest(F.ceil((end - first_label - in_first) / (n - context)), F.lit(0)).cast("int")

        def window(k: Column) -> Column:
            label = F.when(k == 0, first_label).otherwise(first_label + in_first + (k - 1) * (n - context))
            stop = F.least(first_label + in_first + k * (n - context), end)
            begin = F.greatest(stop - n, F.lit(0))
            return F.struct(
                day.alias("ds"), k.alias("window"), (stop - label).alias("labels"),
                F.slice(journey["s"], begin + 1, stop - begin).alias("steps"),
            )  # fmt: skip

        return F.when(end > first_label, F.transform(F.sequence(F.lit(0), more), window))

    days = F.array_compact(F.array_distinct(journey["ds"]))
    return F.flatten(F.array_compact(F.transform(days, windows_of_day)))


def _as_table(padded: DataFrame, dataset: Dataset, spec: FeatureSpec, n: int) -> DataFrame:
    kept = {f.name for f in spec.kept}
    per_step = [
        *(c.name for c in outcome_columns(dataset)),
        *(c.name for c in feature_inputs(dataset) if c.name in kept),
        *(c.name for c in count_inputs(dataset)),
    ]
    return padded.select(
        "user_id", DS, "window",
        F.expr(split_sql("user_id")).alias("split"),
        F.transform("steps", lambda s: s.isNotNull()).alias("valid"),
        F.transform("steps", lambda _, position: position >= n - F.col("labels")).alias("is_label"),
        *(c.name for c in profile_inputs(dataset) if c.name in kept),
        *(F.col(f"steps.{name}").alias(name) for name in per_step),
        *(
            _dense(f"{when}_by_channel", what, spec.channels).alias(f"{when}_{what}_by_channel")
            for when in ("seen", "new")
            for what in ("exposures", *dataset.gain_names)
        ),
    )  # fmt: skip


def _dense(counts: str, what: str, channels: Sequence[str]) -> Column:
    """[n][channels] counts in the spec's order, 0 where the channel has no entry, null at padding."""

    def of_step(step: Column) -> Column:
        def of_channel(channel: str) -> Column:
            at = F.array_position(step[counts]["channel"], channel).cast("int") - 1
            return F.coalesce(F.when(at >= 0, F.get(step[counts][what], at)), F.lit(0))

        return F.when(step.isNotNull(), F.array(*(of_channel(c) for c in channels)))

    return F.transform("steps", of_step)

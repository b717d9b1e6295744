"""Steps to windows of n: cut, pad on the left, mark the labels."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.history import DS, EXPOSURE, KIND
from schemas.dataset import Dataset
from schemas.splits import split_sql
from schemas.steps import count_inputs, feature_inputs, outcome_columns, profile_inputs
from schemas.tables.feature_spec import FeatureSpec
from schemas.tables.sequences import per_channel_columns


def cut_windows(
    steps: DataFrame, yesterday: DataFrame | None, dataset: Dataset, spec: FeatureSpec, n: int
) -> DataFrame:
    """The table `sequences` plus ds.

    steps: as made by history.with_history, for a range of days. yesterday: `journeys` as of the day before.

    A user's labels of a day are all of that day's exposures but the user's first ever. They are cut into
    windows in order: the first window starts up to n/2 steps before its first label (at the journey's start
    where there are fewer), each further one exactly n/2 before; the last window is filled with more context.
    """
    profile = [c.name for c in profile_inputs(dataset)]
    journeys = _journeys(_rows(steps, yesterday, dataset, spec), profile)
    cut = F.transform(
        _bounds(F.col("days"), n),
        lambda w: F.struct(
            w["ds"].alias("ds"),
            w["window"].alias("window"),
            w["labels"].alias("labels"),
            F.slice("journey", w["begin"] + 1, w["stop"] - w["begin"]).alias("steps"),
        ),
    )
    windows = journeys.select("user_id", *profile, F.inline(cut))
    padded = windows.withColumn("steps", F.concat(F.array_repeat(F.lit(None), n - F.size("steps")), F.col("steps")))
    return padded.select(
        "user_id",
        DS,
        "window",
        F.expr(split_sql("user_id")).alias("split"),
        F.transform("steps", lambda s: s.isNotNull()).alias("valid"),
        F.transform("steps", lambda _, position: position >= n - F.col("labels")).alias("is_label"),
        *(name for name in profile if name in {f.name for f in spec.kept}),
        *(F.col(f"steps.{name}").alias(name) for name in _step_columns(dataset, spec)),
    )


def _rows(steps: DataFrame, yesterday: DataFrame | None, dataset: Dataset, spec: FeatureSpec) -> DataFrame:
    """One row a step, of today and remembered, with the columns that a window holds of it.

    The ds of a remembered step is null: it was a label of an earlier day.
    """
    today = steps.where(F.col(KIND) == EXPOSURE)
    rows = today
    if yesterday is not None:
        remembered = yesterday.join(today.select("user_id").distinct(), "user_id", "left_semi")
        rows = today.unionByName(remembered.select("user_id", F.inline("memory")), allowMissingColumns=True)
    return rows.withColumns(
        {
            f"{when}_{what}_by_channel": _dense(f"{when}_by_channel", what, spec.channels)
            for when in ("seen", "new")
            for what in ("exposures", *dataset.gain_names)
        }
    ).select(
        "user_id", DS, *(c.name for c in profile_inputs(dataset)), *_step_columns(dataset, spec),
    )  # fmt: skip


def _step_columns(dataset: Dataset, spec: FeatureSpec) -> list[str]:
    kept = {f.name for f in spec.kept}
    return [
        *(c.name for c in outcome_columns(dataset)),
        *(c.name for c in feature_inputs(dataset) if c.name in kept),
        *(c.name for c in (*count_inputs(dataset), *per_channel_columns(dataset))),
    ]


def _dense(counts: str, what: str, channels: Sequence[str]) -> Column:
    """[channels] counts in the spec's order, 0 where the channel has no entry."""

    def of_channel(channel: str) -> Column:
        at = F.array_position(F.col(counts)["channel"], channel).cast("int") - 1
        return F.coalesce(F.when(at >= 0, F.get(F.col(counts)[what], at)), F.lit(0))

    return F.array(*(of_channel(c) for c in channels))


def _journeys(rows: DataFrame, profile: Sequence[str]) -> DataFrame:
    """user_id, profile, journey: a user's steps, oldest first; days: each one's ds."""
    step = F.struct(*(name for name in rows.columns if name not in ("user_id", DS, *profile)))
    order = ("exposed_at_ms", "exposure_id")
    entry = F.struct(*(F.col(name).alias(f"_{name}") for name in order), DS, step.alias("step"))
    return (
        rows.groupBy("user_id")
        .agg(
            F.array_sort(F.collect_list(entry)).alias("entries"),
            *(F.max_by(name, F.struct(*order)).alias(name) for name in profile),
        )
        .select("user_id", *profile, F.col("entries.step").alias("journey"), F.col("entries.ds").alias("days"))
    )


def _bounds(days: Column, n: int) -> Column:
    """array<struct<ds, window, labels, begin, stop>>: where the windows of a journey lie, stop excluded."""
    context = (n + 1) // 2

    def windows_of_day(day: Column) -> Column:
        start = F.array_position(days, day).cast("int") - 1
        end = start + F.size(F.filter(days, lambda d: d == day))
        first_label = F.greatest(start, F.lit(1))
        # With a short past there is room for more labels in the first window.
        in_first = n - F.least(first_label, F.lit(context))
        more = F.greatest(F.ceil((end - first_label - in_first) / (n - context)), F.lit(0)).cast("int")

        def window(k: Column) -> Column:
            label = F.when(k == 0, first_label).otherwise(first_label + in_first + (k - 1) * (n - context))
            stop = F.least(first_label + in_first + k * (n - context), end)
            return F.struct(
                day.alias("ds"),
                k.alias("window"),
                (stop - label).alias("labels"),
                F.greatest(stop - n, F.lit(0)).alias("begin"),
                stop.alias("stop"),
            )

        return F.when(end > first_label, F.transform(F.sequence(F.lit(0), more), window))

    return F.flatten(F.array_compact(F.transform(F.array_compact(F.array_distinct(days)), windows_of_day)))

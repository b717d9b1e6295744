"""What was known strictly before each exposure: the one place where that rule is applied.

Every input of a step is computed from *facts*, each with the time it becomes known:

- an exposure is known at its own time: that it happened, its channel, its cost, its `after` columns and the
  gains that come with it;
- a late gain (a conversion) is known at its own time;
- yesterday's journey is one fact that sums up all earlier ones.

A step at time t sees exactly the facts with a smaller time: one window frame, `_before` below, that ends one
millisecond before the step. Exposures with one time stamp therefore do not see each other, and neither do
conversions that have not happened yet. What is new at a step is the difference to the previous step's view.
"""

from collections.abc import Callable, Sequence

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from schemas.contract import Known
from schemas.dataset import Dataset
from schemas.steps import (
    LARGEST_SUMMAND,
    UNKNOWN_CHANNEL,
    counted_switches,
    input_columns,
    last,
    mean,
    outcome_columns,
    profile_inputs,
    running_means,
    shown_columns,
    switches,
)

KIND, KNOWN_AT, DS = "_kind", "_known_at_ms", "ds"
EXPOSURE, LATE_GAIN, SUMMARY, QUERY = "exposure", "late_gain", "summary", "query"

_NANO = 1_000_000_000
_MICRO = 1_000_000
_SUM = ("micro", "count")  # a running sum, and how many numbers are in it
_LAST_ID = 2**63 - 1  # the query comes after every exposure


def _before() -> WindowSpec:
    """The facts known strictly before the row: this frame is the whole rule."""
    return Window.partitionBy("user_id").orderBy(KNOWN_AT).rangeBetween(Window.unboundedPreceding, -1)


def _step_order() -> WindowSpec:
    """Exposures in their total order, the summary before them, the query after; late gains have no place in it."""
    return Window.partitionBy("user_id").orderBy(F.col("exposed_at_ms").asc_nulls_last(), "exposure_id")


def with_history(
    exposures: DataFrame, yesterday: DataFrame | None, dataset: Dataset, channels: Sequence[str], as_of_ms: int
) -> DataFrame:
    """Steps with everything known strictly before them.

    exposures: rows of the table `exposures` plus ds, all before as_of_ms. yesterday: the table `journeys` as of
    the day before the first of them, None where there is no earlier history. channels: every channel name in
    either of them.

    Returns KIND = exposure: a step per exposure, outcome and input columns of schemas.steps, ds, profile;
    and KIND = query: a step per user at as_of_ms, input columns, profile, and what `journeys` carries on.
    """
    facts = _exposure_facts(exposures, dataset).unionByName(_query_facts(exposures, yesterday, as_of_ms), True)
    if dataset.late_gains:
        facts = facts.unionByName(_late_facts(exposures, yesterday, dataset, as_of_ms), True)
    if yesterday is not None:
        facts = facts.unionByName(_summary_facts(yesterday, dataset), True)
    return _as_steps(_totals(facts, dataset, channels, has_summary=yesterday is not None), dataset, channels)


def _exposure_facts(exposures: DataFrame, dataset: Dataset) -> DataFrame:
    context = [c.name for c in dataset.features(Known.BEFORE)]
    shown = [c.name for c in shown_columns(dataset)]
    profile = [c.name for c in profile_inputs(dataset)]
    return exposures.select(
        "user_id",
        F.lit(EXPOSURE).alias(KIND),
        F.col("exposed_at_ms").alias(KNOWN_AT),
        DS,
        *(c.name for c in outcome_columns(dataset)),
        *context,
        *profile,
        # The latest of these, by (time, id), is what a later step knows of the last exposure.
        F.struct(
            "exposed_at_ms",
            "exposure_id",
            F.struct(*shown, *context, *profile).alias("values"),
        ).alias("_last"),
    )


def _late_facts(exposures: DataFrame, yesterday: DataFrame | None, dataset: Dataset, as_of_ms: int) -> DataFrame:
    """One fact per late gain that happens before as_of_ms."""
    pending = pending_gains(exposures, dataset)
    if yesterday is not None:
        pending = pending.unionByName(yesterday.select("user_id", F.inline("pending")))
    return pending.where(F.col("known_at_ms") < as_of_ms).select(
        "user_id", F.lit(LATE_GAIN).alias(KIND), F.col("known_at_ms").alias(KNOWN_AT), "channel",
        F.col("gain").alias("_late_gain"),
    )  # fmt: skip


def pending_gains(exposures: DataFrame, dataset: Dataset) -> DataFrame:
    """All late gains of these exposures: user_id, known_at_ms, channel, gain (its name)."""
    gains = F.array(
        *(
            F.when(
                F.col(gain) == 1,
                F.struct(
                    F.col(dataset.column(gain).known_at).alias("known_at_ms"),
                    F.coalesce("channel", F.lit(UNKNOWN_CHANNEL)).alias("channel"),
                    F.lit(gain).alias("gain"),
                ),
            )
            for gain in dataset.late_gains
        )
    )
    return exposures.select("user_id", F.inline(F.array_compact(gains)))


def _query_facts(exposures: DataFrame, yesterday: DataFrame | None, as_of_ms: int) -> DataFrame:
    users = exposures.select("user_id")
    if yesterday is not None:
        users = users.union(yesterday.select("user_id"))
    return users.distinct().select(
        "user_id", F.lit(QUERY).alias(KIND), F.lit(as_of_ms).cast("bigint").alias(KNOWN_AT),
        F.lit(as_of_ms).cast("bigint").alias("exposed_at_ms"), F.lit(_LAST_ID).alias("exposure_id"),
    )  # fmt: skip


def _summary_facts(yesterday: DataFrame, dataset: Dataset) -> DataFrame:
    """Yesterday's journey as one fact, known before anything of today, and as the step today's first follows."""
    context = [c.name for c in dataset.features(Known.BEFORE)]
    shown = [c.name for c in shown_columns(dataset)]
    profile = [c.name for c in profile_inputs(dataset)]
    latest = F.element_at("memory", -1)
    return yesterday.select(
        "user_id",
        F.lit(SUMMARY).alias(KIND),
        F.lit(-1).cast("bigint").alias(KNOWN_AT),
        latest["exposed_at_ms"].alias("exposed_at_ms"),
        latest["exposure_id"].alias("exposure_id"),
        F.struct(
            latest["exposed_at_ms"].alias("exposed_at_ms"),
            latest["exposure_id"].alias("exposure_id"),
            F.struct(
                *(F.col("next_step")[last(name)].alias(name) for name in shown),
                *(F.col("next_step")[name].alias(name) for name in context),
                *profile,
            ).alias("values"),
        ).alias("_last"),
        F.struct("next_step", "seen_cost_nano", "seen_sums", "last_gain_at_ms").alias("_summary"),
    )


def _gain_happened(gain: str, dataset: Dataset) -> Column:
    """1 on the fact that makes this gain known."""
    if gain in dataset.late_gains:
        return F.when(F.col("_late_gain") == gain, 1).otherwise(0)
    return F.when(F.col(KIND) == EXPOSURE, F.col(gain)).otherwise(0)


def _totals(facts: DataFrame, dataset: Dataset, channels: Sequence[str], *, has_summary: bool) -> DataFrame:
    """Running totals over the facts known strictly before each row; on a summary row, yesterday's own view."""
    is_exposure = F.col(KIND) == EXPOSURE
    counted = {"exposures": F.when(is_exposure, 1).otherwise(0)}
    counted |= {gain: _gain_happened(gain, dataset) for gain in dataset.gain_names}
    counted["cost_nano"] = F.when(is_exposure, F.round(F.col("cost") * _NANO).cast("bigint")).otherwise(F.lit(0))

    totals: dict[str, Column] = {}
    for what, happened in counted.items():
        before, own = _from_summary(what, dataset) if has_summary else (F.lit(None), F.lit(None))
        totals[f"_total_{what}"] = _running(F.coalesce(before, happened), own)
    for k, channel in enumerate(channels):
        here = F.coalesce("channel", F.lit(UNKNOWN_CHANNEL)) == channel
        for what in ("exposures", *dataset.gain_names):
            before, own = _channel_from_summary(channel, what) if has_summary else (F.lit(None), F.lit(None))
            totals[f"_total_{k}_{what}"] = _running(F.coalesce(before, F.when(here, counted[what]).otherwise(0)), own)
    for gain in dataset.gain_names:
        before = F.col("_summary")["last_gain_at_ms"][gain] if has_summary else F.lit(None)
        at = F.coalesce(before, F.when(counted[gain] == 1, F.col(KNOWN_AT)))
        totals[f"_last_{gain}_at_ms"] = F.max(at).over(_before())
    totals |= _sums(dataset, has_summary=has_summary) | _switches(dataset, has_summary=has_summary)
    totals["_last_known"] = F.max("_last").over(_before())
    return facts.withColumn("_previous", F.lag("_last").over(_step_order())).withColumns(totals)


def _sums(dataset: Dataset, *, has_summary: bool) -> dict[str, Column]:
    """Of each number with a running mean: the sum in whole millionths, and how many numbers are in it."""
    totals = {}
    for name in running_means(dataset):
        value = F.nanvl(F.col("_last")["values"][name].cast("double"), F.lit(None))
        bounded = F.when(F.abs(value) > LARGEST_SUMMAND, F.signum(value) * LARGEST_SUMMAND).otherwise(value)
        summands = (F.round(bounded * _MICRO).cast("bigint"), value.isNotNull().cast("int"))
        for part, summand in zip(_SUM, summands, strict=True):
            before = _sum_of_summary(name)[part] if has_summary else F.lit(None)
            own = F.when(F.col(KIND) == EXPOSURE, summand)
            totals[f"_sum_{name}_{part}"] = _running(F.coalesce(before, own), F.lit(None))
    return totals


def _sum_of_summary(name: str) -> Column:
    return F.get(F.filter(F.col("_summary")["seen_sums"], lambda total: total["name"] == name), 0)


def _switches(dataset: Dataset, *, has_summary: bool) -> dict[str, Column]:
    """How often each category differed from the exposure before it; a user's first exposure changes nothing."""
    totals = {}
    for name in counted_switches(dataset):
        changed = ~F.col("_last")["values"][name].eqNullSafe(F.col("_previous")["values"][name])
        own = F.when((F.col(KIND) == EXPOSURE) & F.col("_previous").isNotNull(), changed.cast("int"))
        before = F.col("_summary")["next_step"][switches(name)] if has_summary else F.lit(None)
        totals[f"_{switches(name)}"] = _running(F.coalesce(before, own), F.lit(None))
    return totals


def _running(contribution: Column, own_view: Column) -> Column:
    return F.coalesce(own_view, F.sum(contribution).over(_before()), F.lit(0))


def _from_summary(what: str, dataset: Dataset) -> tuple[Column, Column]:
    """Of a summary row: all that yesterday had seen, and what its last step had seen."""
    if what == "cost_nano":
        seen = F.col("_summary")["seen_cost_nano"]
        new = F.round(F.col("_summary")["next_step"]["new_cost"] * _NANO).cast("bigint")
    else:
        seen, new = (F.col("_summary")["next_step"][f"{when}_{what}"] for when in ("seen", "new"))
    return seen, seen - new


def _channel_from_summary(channel: str, what: str) -> tuple[Column, Column]:
    def count(when: str) -> Column:
        found = F.filter(F.col("_summary")["next_step"][f"{when}_by_channel"], lambda c: c["channel"] == channel)
        counted = F.coalesce(F.get(found, 0)[what], F.lit(0))
        return F.when(F.col("_summary").isNotNull(), counted)

    return count("seen"), count("seen") - count("new")


def _as_steps(totals: DataFrame, dataset: Dataset, channels: Sequence[str]) -> DataFrame:
    """Totals to the input columns of schemas.steps, on exposure and query rows."""
    what = ("exposures", *dataset.gain_names)

    def new(total: str) -> Column:
        return F.col(total) - F.coalesce(F.lag(total).over(_step_order()), F.lit(0))

    def by_channel(value: Callable[[str], Column]) -> Column:
        entries = F.array(
            *(
                F.struct(
                    F.lit(channel).alias("channel"),
                    *(value(f"_total_{k}_{w}").cast("int").alias(w) for w in what),
                )
                for k, channel in enumerate(channels)
            )
        )
        return F.filter(entries, lambda e: F.greatest(*(e[w] for w in what), F.lit(0)) > 0)

    steps = totals.where(F.col(KIND) != LATE_GAIN)
    known = F.col("_last_known")["values"]
    previous_ms = F.lag("exposed_at_ms").over(_step_order())
    is_query = F.col(KIND) == QUERY
    inputs = {
        # The next exposure's context is not known at the end of a day: the latest one stands in for it.
        **{
            name: F.when(is_query, known[name]).otherwise(F.col(name))
            for name in (c.name for c in (*dataset.features(Known.BEFORE), *profile_inputs(dataset)))
        },
        **{last(c.name): known[c.name] for c in shown_columns(dataset)},
        **{mean(n): F.try_divide(F.col(f"_sum_{n}_micro") / _MICRO, f"_sum_{n}_count") for n in running_means(dataset)},
        **{switches(name): F.col(f"_{switches(name)}") for name in counted_switches(dataset)},
        "gap_s": F.coalesce((F.col("exposed_at_ms") - previous_ms) / 1000, F.lit(0.0)),
        **{f"since_{g}_s": (F.col("exposed_at_ms") - F.col(f"_last_{g}_at_ms")) / 1000 for g in dataset.gain_names},
        **{f"seen_{w}": F.col(f"_total_{w}") for w in what},
        **{f"new_{w}": new(f"_total_{w}") for w in what},
        "new_cost": new("_total_cost_nano") / _NANO,
        "seen_by_channel": by_channel(F.col),
        "new_by_channel": by_channel(new),
    }
    types = {c.name: c.dtype for c in (*input_columns(dataset), *profile_inputs(dataset))}
    outcomes = [c.name for c in outcome_columns(dataset)]
    return steps.select(
        "user_id", KIND, DS, *outcomes,
        *(column.cast(types[name]).alias(name) for name, column in inputs.items()),
        F.col("_total_cost_nano").cast("bigint").alias("seen_cost_nano"),
        F.array(
            *(
                F.struct(F.lit(n).alias("name"), *(F.col(f"_sum_{n}_{p}").cast("bigint").alias(p) for p in _SUM))
                for n in running_means(dataset)
            )
        ).alias("seen_sums"),
        F.struct(*(F.col(f"_last_{g}_at_ms").alias(g) for g in dataset.gain_names)).alias("last_gain_at_ms"),
    ).where(F.col(KIND) != SUMMARY)  # fmt: skip

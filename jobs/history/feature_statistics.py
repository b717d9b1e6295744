"""Statistics of the training steps: missing values, scale and vocabulary of each candidate feature, reward span.

All of it is aggregated by Spark over all training steps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contract import Column as Input
from schemas.dataset import Dataset
from schemas.tables.feature_spec import Feature

# Skewness of a number >= 0 beyond which its logarithm is taken.
_HEAVY_TAIL = 2.0
# A category that is seen less often shares the out-of-vocabulary code.
RAREST_CATEGORY = 10
_LARGEST_VOCABULARY = 20_000


def describe_numbers(steps: DataFrame, inputs: Sequence[Input], total: int) -> list[Feature]:
    """Features with missing share, mean and variance; for heavy tails also the unit of the logarithm.

    total: number of steps.
    """
    if not inputs:
        return []
    figures = _aggregate(steps, inputs, {
        "count": F.count, "min": F.min, "skew": F.skewness, "mean": F.avg, "std": F.stddev_pop,
        "log": lambda x: F.avg(F.log(F.when(x > 0, x))),
    })  # fmt: skip
    # The model reads a number with a heavy tail by its order of magnitude, relative to the number's own typical size.
    units = {
        name: round_to_12_digits(math.exp(f["log"]))
        for name, f in figures.items()
        if f["log"] is not None and f["min"] >= 0 and f["skew"] is not None and f["skew"] > _HEAVY_TAIL
    }
    heavy_tailed = [c for c in inputs if c.name in units]
    log_figures = _aggregate(steps, heavy_tailed, {"mean": F.avg, "std": F.stddev_pop}, units)

    def describe(c: Input) -> Feature:
        scale = log_figures.get(c.name, figures[c.name])
        return Feature(
            name=c.name, role="numeric", static=c.static, kept=True,
            missing_share=1 - figures[c.name]["count"] / max(total, 1),
            variance=round_to_12_digits(scale["std"] ** 2) if scale["std"] is not None else None,
            mean=round_to_12_digits(scale["mean"]), std=round_to_12_digits(scale["std"]),
            unit=units.get(c.name),
        )  # fmt: skip

    return [describe(c) for c in inputs]


def _aggregate(
    steps: DataFrame,
    inputs: Sequence[Input],
    figures: Mapping[str, Callable[[Column], Column]],
    units: Mapping[str, float | None] | None = None,
) -> dict[str, dict[str, float | None]]:
    """{input: {figure: value}} over all steps; with `units`, of log1p(value / unit)."""
    if not inputs:
        return {}

    def value(name: str) -> Column:
        raw = F.col(name).cast("double")
        return F.log1p(F.greatest(raw, F.lit(0.0)) / units[name]) if units else raw

    row = steps.agg(*(f(value(c.name)).alias(f"{c.name}__{k}") for c in inputs for k, f in figures.items())).first()
    assert row is not None
    return {c.name: {k: row[f"{c.name}__{k}"] for k in figures} for c in inputs}


def round_to_12_digits(value: float | None) -> float | None:
    """Twelve significant digits: sums that are added up in another order must not make another spec."""
    return None if value is None else float(f"{value:.12g}")


def describe_categories(steps: DataFrame, inputs: Sequence[Input], total: int) -> list[Feature]:
    """Features with missing share and vocabulary, the most frequent value first. total: number of steps."""
    if not inputs:
        return []
    pairs = F.array(*(F.struct(F.lit(c.name).alias("name"), F.col(c.name).cast("string").alias("v")) for c in inputs))
    counted = steps.select(F.inline(pairs)).where(F.col("v").isNotNull()).groupBy("name", "v").count()
    entry = F.struct((-F.col("count")).alias("rare"), "v")
    rows = (
        counted.groupBy("name")
        .agg(
            F.sum("count").alias("present"),
            F.max("count").alias("most"),
            F.slice(
                F.array_sort(F.collect_list(F.when(F.col("count") >= RAREST_CATEGORY, entry))),
                1,
                _LARGEST_VOCABULARY,
            ).alias("vocabulary"),
        )
        .collect()
    )
    by_name = {row["name"]: row for row in rows}

    def describe(c: Input) -> Feature:
        row = by_name.get(c.name)
        feature = Feature(name=c.name, role="categorical", static=c.static, kept=True)
        if row is None:
            return replace(feature, missing_share=1.0)
        vocabulary = tuple(entry["v"] for entry in row["vocabulary"])
        feature = replace(feature, missing_share=1 - row["present"] / max(total, 1), vocabulary=vocabulary)
        if row["most"] == total:
            return replace(feature, kept=False, reason="constant: one value only")
        return feature

    return [describe(c) for c in inputs]


def reward_span(steps: DataFrame, dataset: Dataset, penalty: float) -> tuple[float, float]:
    """Smallest and largest g - s w of a step (equation 3, gains fused by weight as in equation 18). penalty: s."""
    gain = sum((F.col(g.name) * g.weight for g in dataset.gains), F.lit(0.0))
    row = steps.agg(F.min(gain - penalty * F.col("cost")), F.max(gain - penalty * F.col("cost"))).first()
    assert row is not None
    low, high = float(row[0] or 0.0), float(row[1] or 0.0)
    return low, high if high > low else low + 1.0

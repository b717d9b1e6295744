"""Which candidate inputs the model sees, and how they are encoded; fitted on training users only.

Vocabularies, shares, means and variances come from all training steps (Spark aggregates). Correlation and
mutual information are measured on a bounded sample of steps, drawn by a hash of the exposure, with pandas,
scikit-learn and SciPy.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from scipy.stats import chi2
from sklearn.metrics import mutual_info_score

from schemas.contract import Column as Input
from schemas.contract import Role
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import feature_inputs, profile_inputs
from schemas.tables.feature_spec import OUT_OF_VOCABULARY, Feature, FeatureSpec, RewardScale


@dataclass(frozen=True, slots=True)
class SelectionRules:
    """When a candidate is dropped, and how large vocabularies may grow."""

    most_missing: float = 0.95  # share of missing values among training steps
    most_correlated: float = 0.98  # absolute Pearson correlation with a kept number
    least_significance: float = 0.01  # p of the G-test of independence, against channel and gains
    rarest_category: int = 10  # a category seen less often shares the out-of-vocabulary code
    largest_vocabulary: int = 20_000
    sample_rows: int = 50_000  # for correlation and mutual information
    bins: int = 32  # quantile bins of a number for its mutual information


RULES = SelectionRules()
_HEAVY_TAIL = 2.0  # skewness of a number >= 0 beyond which its logarithm is taken


def fit_spec(
    steps: DataFrame, dataset: Dataset, channels: Sequence[str], first_day: str, last_day: str, penalty: float
) -> FeatureSpec:
    """The spec of these steps (training users' exposure steps only; columns of history.with_history).

    A UserError where there is none.
    """
    steps = steps.persist()
    total = steps.count()
    if total == 0:
        raise UserError(
            f"{dataset.name} has no exposure of a training user from {first_day} to {last_day}: choose more days, or a "
            "log of more users"
        )
    numbers = _candidates(dataset, Role.NUMERIC)
    categories = _candidates(dataset, Role.CATEGORICAL)
    features = [
        *_describe_numbers(steps, numbers, total),
        *_describe_categories(steps, categories, total),
    ]
    sample = _sample(steps, dataset, total)
    features = _drop_uninformative([_drop_degenerate(f) for f in features], sample, dataset)
    features = _drop_correlated(features, sample)
    low, high = _reward_span(steps, dataset, penalty)
    steps.unpersist()
    return FeatureSpec(
        dataset=dataset.name, first_day=first_day, last_day=last_day, channels=tuple(channels),
        gains=dataset.gain_names, gain_weights=tuple(g.weight for g in dataset.gains),
        reward=RewardScale(penalty, low, high), features=tuple(features),
    )  # fmt: skip


def _candidates(dataset: Dataset, role: Role) -> list[Input]:
    return [c for c in (*profile_inputs(dataset), *feature_inputs(dataset)) if c.role is role]


def _describe_numbers(steps: DataFrame, inputs: Sequence[Input], total: int) -> list[Feature]:
    if not inputs:
        return []
    found = _aggregate(steps, inputs, {
        "count": F.count, "min": F.min, "skew": F.skewness, "mean": F.avg, "std": F.stddev_pop,
        "log": lambda x: F.avg(F.log(F.when(x > 0, x))),
    })  # fmt: skip
    # A quantity with a heavy tail is told by its order of magnitude, counted from its own typical size.
    units = {
        name: _round(math.exp(f["log"]))
        for name, f in found.items()
        if f["log"] is not None and f["min"] >= 0 and f["skew"] is not None and f["skew"] > _HEAVY_TAIL
    }
    heavy = [c for c in inputs if c.name in units]
    logged = _aggregate(steps, heavy, {"mean": F.avg, "std": F.stddev_pop}, units)

    def describe(c: Input) -> Feature:
        scale = logged.get(c.name, found[c.name])
        return Feature(
            name=c.name, role="numeric", static=c.static, kept=True,
            missing_share=1 - found[c.name]["count"] / max(total, 1),
            variance=_round(scale["std"] ** 2) if scale["std"] is not None else None,
            mean=_round(scale["mean"]), std=_round(scale["std"]),
            unit=units.get(c.name),
        )  # fmt: skip

    return [describe(c) for c in inputs]


def _aggregate(
    steps: DataFrame,
    inputs: Sequence[Input],
    figures: Mapping[str, Callable[[Column], Column]],
    units: Mapping[str, float | None] | None = None,
) -> dict[str, dict[str, float | None]]:
    """{input: {figure: value}} over all steps; where `units` are given, of log1p(value / unit)."""
    if not inputs:
        return {}

    def value(name: str) -> Column:
        raw = F.col(name).cast("double")
        return F.log1p(F.greatest(raw, F.lit(0.0)) / units[name]) if units else raw

    row = steps.agg(*(f(value(c.name)).alias(f"{c.name}__{k}") for c in inputs for k, f in figures.items())).first()
    assert row is not None
    return {c.name: {k: row[f"{c.name}__{k}"] for k in figures} for c in inputs}


def _round(value: float | None) -> float | None:
    """Twelve significant digits: sums in another order must not make another spec."""
    return None if value is None else float(f"{value:.12g}")


def _describe_categories(steps: DataFrame, inputs: Sequence[Input], total: int) -> list[Feature]:
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
                F.array_sort(F.collect_list(F.when(F.col("count") >= RULES.rarest_category, entry))),
                1,
                RULES.largest_vocabulary,
            ).alias("vocabulary"),
        )
        .collect()
    )
    by_name = {row["name"]: row for row in rows}

    def describe(c: Input) -> Feature:
        row = by_name.get(c.name)
        base = Feature(name=c.name, role="categorical", static=c.static, kept=True)
        if row is None:
            return replace(base, missing_share=1.0)
        vocabulary = tuple(entry["v"] for entry in row["vocabulary"])
        base = replace(base, missing_share=1 - row["present"] / max(total, 1), vocabulary=vocabulary)
        if row["most"] == total:
            return replace(base, kept=False, reason="constant: one value only")
        return base

    return [describe(c) for c in inputs]


def _drop_degenerate(feature: Feature) -> Feature:
    if not feature.kept:
        return feature
    if feature.missing_share is not None and feature.missing_share > RULES.most_missing:
        return replace(feature, kept=False, reason=f"missing in {feature.missing_share:.1%} of the training steps")
    if feature.role == "numeric" and not feature.std:
        return replace(feature, kept=False, reason="constant: zero variance")
    if feature.role == "categorical" and not feature.vocabulary:
        return replace(feature, kept=False, reason=f"no value occurs {RULES.rarest_category} times")
    return feature


def _sample(steps: DataFrame, dataset: Dataset, total: int) -> pd.DataFrame:
    """At most about sample_rows steps, the same ones in every run."""
    names = [c.name for role in (Role.NUMERIC, Role.CATEGORICAL) for c in _candidates(dataset, role)]
    share = min(1.0, RULES.sample_rows / max(total, 1))
    buckets = 1_000_000
    chosen = steps.where(F.pmod(F.xxhash64("exposure_id"), F.lit(buckets)) < int(share * buckets))
    return chosen.select("exposure_id", "channel", *dataset.gain_names, *names).orderBy("exposure_id").toPandas()


def _drop_uninformative(features: Sequence[Feature], sample: pd.DataFrame, dataset: Dataset) -> list[Feature]:
    action = sample["channel"].notna().to_numpy()
    targets = [(action, pd.factorize(sample["channel"][action])[0])]
    everything = np.ones(len(sample), dtype=bool)
    targets += [(everything, sample[gain].to_numpy()) for gain in dataset.gain_names]

    def judge(feature: Feature) -> Feature:
        codes = _codes(feature, sample[feature.name])
        information, p_values = zip(*(_dependence(codes[rows], target) for rows, target in targets), strict=True)
        feature = replace(
            feature, mutual_information_action=_round(information[0]), mutual_information_reward=_round(information[1])
        )
        if feature.kept and min(p_values) > RULES.least_significance:
            return replace(feature, kept=False, reason=f"independent of channel and gains (p = {min(p_values):.2f})")
        return feature

    return [judge(feature) for feature in features]


def _codes(feature: Feature, values: pd.Series) -> np.ndarray:
    """Integer codes of a feature as the model will see it: vocabulary codes, or quantile bins; missing is one."""
    if feature.role == "categorical":
        index = {value: code for code, value in enumerate(feature.vocabulary, start=1)}
        return values.map(_text).map(index).fillna(OUT_OF_VOCABULARY).to_numpy(dtype=np.int64)
    binned = pd.qcut(values.astype("float64"), RULES.bins, labels=False, duplicates="drop")
    return np.asarray(pd.Series(binned).fillna(-1).to_numpy(dtype=np.int64) + 1)


def _text(value: object) -> str | None:
    """As Spark's cast to string writes it: pandas turns an integer column with gaps into floats."""
    if pd.isna(value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _dependence(codes: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Mutual information in nats, and the p-value of the G-test that it is nought (G = 2 N MI)."""
    freedom = (len(np.unique(codes)) - 1) * (len(np.unique(target)) - 1)
    if freedom <= 0:
        return 0.0, 1.0
    information = float(mutual_info_score(codes, target))
    return information, float(chi2.sf(2 * len(codes) * information, freedom))


def _drop_correlated(features: Sequence[Feature], sample: pd.DataFrame) -> list[Feature]:
    """Of two numbers that say the same, the one with more information on the reward stays."""
    numeric = [f for f in features if f.kept and f.role == "numeric"]
    numeric.sort(key=lambda f: (-(f.mutual_information_reward or 0.0), f.name))
    values = pd.DataFrame({f.name: _transformed(f, sample[f.name]) for f in numeric})
    correlation = values.corr().abs().fillna(0.0)
    decided: dict[str, Feature] = {}
    kept: list[str] = []
    for feature in numeric:
        strongest = max(((float(correlation.at[feature.name, k]), k) for k in kept), default=(0.0, ""))
        feature = replace(feature, correlation=_round(strongest[0]))
        if strongest[0] > RULES.most_correlated:
            feature = replace(feature, kept=False, reason=f"correlation {strongest[0]:.3f} with {strongest[1]}")
        else:
            kept.append(feature.name)
        decided[feature.name] = feature
    return [decided.get(f.name, f) for f in features]


def _transformed(feature: Feature, values: pd.Series) -> pd.Series:
    values = values.astype("float64")
    return np.log1p(values.clip(lower=0) / feature.unit) if feature.unit else values


def _reward_span(steps: DataFrame, dataset: Dataset, penalty: float) -> tuple[float, float]:
    """Smallest and largest g - s w of a step (equation 3, gains fused by weight as in equation 18)."""
    gain = sum((F.col(g.name) * g.weight for g in dataset.gains), F.lit(0.0))
    row = steps.agg(F.min(gain - penalty * F.col("cost")), F.max(gain - penalty * F.col("cost"))).first()
    assert row is not None
    low, high = float(row[0] or 0.0), float(row[1] or 0.0)
    return low, high if high > low else low + 1.0
